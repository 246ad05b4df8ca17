"""Compiling with XLA: its options for each backend, and compilation in the background."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import jax

from scalesearch.runtime.cores import usable_cores

Result = TypeVar("Result")

REQUIRED_OPTIONS = frozenset({"xla_gpu_enable_dynamic_slice_fusion"})
"""Options without which some programs fail. The others only shorten compilation."""


def compile_options(backend: str, *, quick: bool) -> dict[str, str | bool]:
    """XLA's compiler options for a jax `backend` ("cpu", "gpu", "tpu").

    With `quick`, options that shorten compilation at the price of slower loops outside the CPU kernels.
    """
    if backend == "gpu":
        return {
            # Triton would try some thirty kernels for each matrix product of each network. Without it the default
            # study's baseline compiles in 3.1 s instead of 8.0 s (H100, 2026-11-26).
            "xla_gpu_enable_triton_gemm": False,
            # This fusion passes slices of a packed vector to cuBLAS in place. cuBLAS refuses slices that do not begin
            # at a multiple of 16 bytes ("the requested functionality is not supported", H100, 2026-11-26).
            "xla_gpu_enable_dynamic_slice_fusion": False,
        }
    if backend == "cpu" and quick:
        return {
            # The fusion emitters set up MLIR for each loop, some 40 ms. Without them, and with one part of a program
            # for each core (the default is 32), programs compile in half the time. The other emitter updates a vector
            # in place, element by element.
            "xla_cpu_use_fusion_emitters": False,
            "xla_cpu_parallel_codegen_split_count": str(len(usable_cores())),
        }
    return {}


def compile_in_background(
    function: jax.stages.Wrapped, arguments: tuple[Any, ...], *, quick: bool = False
) -> Future[jax.stages.Compiled]:
    """Compile the jitted `function` for the shapes and types of `arguments`.

    Tracing, which is Python, happens before this returns; XLA compiles in a thread.

    Args:
        function: what `jax.jit` returned.
        arguments: arrays, or `jax.ShapeDtypeStruct` in their place.
        quick: prefer a short compilation to fast code, see `compile_options`.
    """
    lowered = function.lower(*arguments)
    options = compile_options(jax.default_backend(), quick=quick)
    return run_in_background(lambda: compile_with_options(lowered, options))


def compile_with_options(
    lowered: jax.stages.Lowered, options: dict[str, str | bool], required: frozenset[str] = REQUIRED_OPTIONS
) -> jax.stages.Compiled:
    """Compile with those of `options` that the installed XLA knows; warns if it lacks a `required` one."""
    options = dict(options)
    while True:
        try:
            return lowered.compile(compiler_options=options or None)
        except jax.errors.JaxRuntimeError as error:
            unknown = next((name for name in options if f"No such compile option: '{name}'" in str(error)), None)
            if unknown is None:
                raise
            if unknown in required:
                warnings.warn(f"this XLA does not know `{unknown}`: programs are compiled without it", stacklevel=2)
            del options[unknown]


def run_in_background(function: Callable[[], Result]) -> Future[Result]:
    """Run `function` in a daemon thread, so that the caller can wait where an interrupt reaches it.

    An executor's threads would delay the end of an interrupted process until the compilation is done.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
