"""Programs: jax's cache holds them for the next process of this kind of machine, and options of XLA that it lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.programs import compile_in_background, compile_options, compile_with_options

X = np.arange(5, dtype=np.float32)

# Compiles one function and prints its values and jax's counts of hits and misses.
COMPILE = """
import json, sys, warnings
from pathlib import Path
import jax, numpy as np
from scalesearch.runtime.program_cache import use_program_cache
from scalesearch.runtime.programs import compile_in_background
if sys.argv[2:]:
    jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.jit(lambda x: x - 1)(np.float32(2))  # jax has looked for its cache before
use_program_cache(Path(sys.argv[1]))
events = []
jax.monitoring.register_event_listener(lambda event, **details: events.append(event.rpartition("/")[2]))
x = np.arange(5, dtype=np.float32)
program = compile_in_background(jax.jit(lambda x: {"sin": jax.numpy.sin(x)}), (x,), quick=True).result()
counts = {name: events.count(name) for name in ("cache_hits", "cache_misses")}
print(json.dumps({"sin": program(x)["sin"].tolist(), **counts}))
"""


def compiled(folder: Path, *arguments: Path, cores: int = 1) -> dict[str, Any]:
    """What a process of its own prints that keeps its programs in `folder`."""
    pinned = f"from scalesearch.runtime.cores import usable_cores, use_cores; use_cores(usable_cores()[:{cores}])\n"
    command = [sys.executable, "-c", pinned + COMPILE, folder, *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    environment["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def test_the_next_process_compiles_nothing_and_computes_the_same(tmp_path: Path) -> None:
    first, second = compiled(tmp_path), compiled(tmp_path)
    assert (first.pop("cache_hits"), first.pop("cache_misses")) == (0, 1)
    assert (second.pop("cache_hits"), second.pop("cache_misses")) == (1, 0)
    assert first == second
    np.testing.assert_allclose(first["sin"], np.sin(X), rtol=1e-6)  # float32


@pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two cores")
def test_other_cores_have_programs_of_their_own(tmp_path: Path) -> None:
    compiled(tmp_path)
    assert compiled(tmp_path, cores=2)["cache_hits"] == 0


def test_a_program_that_was_not_written_whole_is_compiled_again(tmp_path: Path) -> None:
    """jax writes the time of access last; without it jax would fail on the folder for good."""
    compiled(tmp_path)
    (program,) = tmp_path.rglob("*-cache")
    program.write_bytes(program.read_bytes()[:50])
    program.with_name(program.name.removesuffix("-cache") + "-atime").unlink()
    assert compiled(tmp_path)["cache_misses"] == 1
    assert compiled(tmp_path)["cache_hits"] == 1


def test_a_cache_that_the_user_has_turned_on_is_left_alone(tmp_path: Path) -> None:
    compiled(tmp_path / "ours", tmp_path / "theirs")
    assert not (tmp_path / "ours").exists()


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
