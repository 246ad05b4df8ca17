"""Compiling programs: options that XLA lacks, and errors."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.runtime.programs import compile_in_background, compile_options, compile_with_options

X = np.arange(5, dtype=np.float32)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_this_xla_knows_the_options_of_every_backend(backend: str) -> None:
    options = compile_options(backend, quick=True)
    if jax.__version_info__ >= (0, 11):  # which has only one kind of emitter
        options.pop("xla_cpu_use_fusion_emitters", None)
    program = jax.jit(jnp.sin).lower(X).compile(compiler_options=options)
    np.testing.assert_array_equal(program(X), jnp.sin(X))
    with pytest.raises(Exception, match="No such compile option"):
        jax.jit(jnp.sin).lower(X).compile(compiler_options={"xla_gpu_no_such": False})


@pytest.mark.parametrize("required", [True, False])
def test_only_the_option_that_xla_does_not_know_is_left_out(required: bool) -> None:
    asked: list[dict[str, bool]] = []

    class Lowered:
        def compile(self, compiler_options: dict[str, bool]) -> Any:
            asked.append(dict(compiler_options))
            return jax.jit(jnp.sin).lower(X).compile(compiler_options=compiler_options)

    lowered: Any = Lowered()
    options: Any = {"xla_gpu_no_such": False, "xla_gpu_enable_triton_gemm": False}
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        program = compile_with_options(lowered, options, frozenset({"xla_gpu_no_such"} if required else ()))
    np.testing.assert_array_equal(program(X), jnp.sin(X))
    assert asked == [options, {"xla_gpu_enable_triton_gemm": False}]
    expected = "this XLA does not know `xla_gpu_no_such`: programs are compiled without it"
    assert [str(note.message) for note in notes] == ([expected] if required else [])


def test_an_error_of_the_compiler_reaches_the_caller() -> None:
    class Lowered:
        def compile(self, compiler_options: Any) -> Any:
            raise MemoryError("no room")

    class Function:
        def lower(self, *arguments: Any) -> Any:
            return Lowered()

    function: Any = Function()
    with pytest.raises(MemoryError, match="no room"):
        compile_in_background(function, (X,)).result()
