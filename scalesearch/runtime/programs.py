"""Whole compiled programs kept on disk: what one process has compiled, the next neither traces nor compiles.

JAX's own cache spares XLA's part of the work alone: tracing and lowering a network keeps Python busy for a second.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from scalesearch.runtime.cache import folder_in_use, folders
from scalesearch.runtime.cores import processor, usable_cores
from scalesearch.runtime.files import write_whole
from scalesearch.runtime.text import first_line

MOST_BYTES = 2**30
"""Of all kept programs together; those longest unused go first. A small network's take half a megabyte."""

INDISPENSABLE = frozenset({"xla_gpu_enable_dynamic_slice_fusion"})
"""Options without which some programs fail; what the others do is to compile sooner."""


def options_of(backend: str, *, brief: bool) -> dict[str, str | bool]:
    """What XLA is told for a jax `backend` ("cpu", "gpu", "tpu"); `brief` as for `obtain`."""
    if backend == "gpu":
        return {
            # Tries some thirty kernels for each matrix product of each network. Without, the default study's baseline
            # compiles in 3.1 s instead of 8.0, in a process that has compiled before (H100, 2026-11-26).
            "xla_gpu_enable_triton_gemm": False,
            # Hands parts of a packed vector to cuBLAS where they lie; it refuses those that begin at no multiple of 16
            # bytes ("the requested functionality is not supported", H100, 2026-11-26).
            "xla_gpu_enable_dynamic_slice_fusion": False,
        }
    if backend == "cpu" and brief:
        return {
            # Sets MLIR up anew for each loop, some 40 ms. Without, and with no more parts than can be compiled side by
            # side (XLA's default is 32), programs compile in half the time. What else there was emits an update in
            # place as a loop of single numbers, not of vectors.
            "xla_cpu_use_fusion_emitters": False,
            "xla_cpu_parallel_codegen_split_count": str(len(usable_cores())),
        }
    return {}


_ABANDONED_SECONDS = 3600.0
_PACKAGES = ("jax", "jaxlib", "flax", "optax")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one program is kept, the structures of what it takes and returns, and the devices that it runs on."""

    path: Path
    takes: Any
    returns: Any
    devices: list[jax.Device]

    def load(self) -> jax.stages.Compiled | None:
        """The program, or None where it is not kept. Warns where it is kept for other circumstances alone."""
        try:
            found = self.path.read_bytes()
        except OSError:
            self._tell_of_others()
            return None
        try:
            os.utime(self.path)  # the last use, for `_prune`
            program: jax.stages.Compiled = serialize_executable.deserialize_and_load(
                zlib.decompress(found), self.takes, self.returns, execution_devices=self.devices
            )
        except Exception as error:  # a damaged file, in any of the ways of pickle and XLA
            warnings.warn(f"a kept program cannot be read and is compiled again: {first_line(error)}", stacklevel=2)
            return None
        return program

    def save(self, compiled: jax.stages.Compiled) -> None:
        """Keep `compiled`, if this can be done. Never raises: the program at hand works either way."""
        try:
            serialized, takes, _ = serialize_executable.serialize(compiled)
            assert takes == self.takes
            packed = zlib.compress(serialized, level=1)
            write_whole(self.path, lambda temporary: temporary.write_bytes(packed))
            _prune(self.path.parent)
        except Exception as error:  # a full disk, or a program that this backend cannot serialise: XLA names no types
            warnings.warn(f"a compiled program is not kept: {first_line(error)}", stacklevel=2)

    def _tell_of_others(self) -> None:
        what = self.path.name.split("-")[0]
        if any(path != self.path for folder in folders() for path in folder.glob(f"{what}-*")):
            warnings.warn(
                "the programs kept so far are for another version of scalesearch or jax, another device, another "
                "number of cores or other settings of XLA; they are compiled anew",
                stacklevel=2,
            )


def obtain(
    determinants: tuple[object, ...],
    function: Any,
    takes: tuple[Any, ...],
    returns: Any,
    *,
    spread: bool = False,
    brief: bool = False,
) -> Future[jax.stages.Compiled]:
    """The jitted `function` compiled for the shapes of `takes`: as it is kept, else compiled, and then kept.

    `determinants` are what it depends on beside these shapes and the code (their `repr` counts); `returns` is
    anything of the structure of its result. `spread`: it runs on all local devices, not on the first alone. `brief`: to
    compile soon counts for more than to run fast. Lowering, which is Python, is done at once; compiling in a thread.
    """
    place = _place((*determinants, brief), takes, returns, jax.local_devices() if spread else jax.local_devices()[:1])
    kept = place.load() if place is not None else None
    if kept is not None:
        future: Future[jax.stages.Compiled] = Future()
        future.set_result(kept)
        return future
    lowered = function.lower(*takes)

    def compile_and_keep() -> jax.stages.Compiled:
        compiled = _compile(lowered, options_of(jax.default_backend(), brief=brief))
        if place is not None:
            place.save(compiled)
        return compiled

    return in_background(compile_and_keep)


def _compile(lowered: jax.stages.Lowered, options: dict[str, str | bool]) -> jax.stages.Compiled:
    """`lowered` compiled with `options`, less those that this XLA does not know.

    Warns where that is one of the `INDISPENSABLE`.
    """
    options = dict(options)
    while True:
        try:
            return lowered.compile(compiler_options=options or None)
        except jax.errors.JaxRuntimeError as error:
            unknown = next((name for name in options if f"No such compile option: '{name}'" in str(error)), None)
            if unknown is None:
                raise
            if unknown in INDISPENSABLE:
                warnings.warn(f"this XLA does not know `{unknown}`: programs are compiled without it", stacklevel=2)
            del options[unknown]


def in_background(function: Callable[[], Any]) -> Future[Any]:
    """Runs `function` in a thread of its own, so that the caller waits where an interrupt reaches it.

    A daemon, unlike those of an executor: an interrupted process need not see the compilation through.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _place(
    determinants: tuple[object, ...], takes: tuple[Any, ...], returns: Any, devices: list[jax.Device]
) -> _Place | None:
    """Where the program is kept; None where none is: the cache is off, or the user has turned JAX's own on.

    What JAX takes from its own cache cannot be saved again (jaxlib 0.10: "Function … not found" when it runs).
    """
    folder = folder_in_use()
    if folder is None:
        return None
    if jax.config.values["jax_compilation_cache_dir"]:
        warnings.warn(
            "whole programs are not kept, since jax's own compilation cache is on (`jax_compilation_cache_dir`): each "
            "process traces all networks anew",
            stacklevel=2,
        )
        return None
    compilation_cache.reset_cache()  # once used, jax's own is used on, even where it was turned off since
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(takes)]
    what = _digest(determinants, shapes)
    path = folder / f"{what}-{_circumstances()}.program"
    return _Place(path, jax.tree.structure((takes, {})), jax.tree.structure(returns), devices)


def _circumstances() -> str:
    """All else that a program depends on: code, versions, device, cores, settings."""
    device = jax.devices()[0]
    values = jax.config.values
    settings = {name: getattr(jax.config, name, values[name]) for name in sorted(values) if "cache" not in name}
    flags = [os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    versions = [version(package) for package in _PACKAGES]
    kind = (device.device_kind, device.client.platform_version, jax.local_device_count())
    cores = len(usable_cores()) if jax.default_backend() == "cpu" else None
    return _digest(_source(), versions, kind, processor(), cores, settings, flags)


@cache
def _source() -> str:
    """The code of this package."""
    files = sorted(path for path in Path(__file__).parents[1].rglob("*") if path.suffix in (".py", ".cc", ".h"))
    return _digest(*(file.read_bytes() for file in files))


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _prune(folder: Path) -> None:
    """Delete the programs longest unused beyond `MOST_BYTES`, and what processes that ended had not written whole."""
    for begun in folder.glob(".*"):
        if begun.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
            begun.unlink(missing_ok=True)
    total = 0
    for status, path in sorted(((path.stat(), path) for path in folder.glob("*.program")), key=_last_use, reverse=True):
        total += status.st_size
        if total > MOST_BYTES:
            path.unlink(missing_ok=True)


def _last_use(entry: tuple[os.stat_result, Path]) -> float:
    return entry[0].st_mtime
