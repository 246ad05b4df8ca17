"""jax's cache of compiled programs on disk, and what it lacks: digests, and an end to it where nothing can be written.

jax executes whatever it finds in its folder, reads a program anew for each compilation, and never replaces one.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from scalesearch.runtime.cache import check_room
from scalesearch.runtime.cores import processor, usable_cores
from scalesearch.runtime.digests import DigestList
from scalesearch.runtime.text import plural

CACHE_BYTES = 2**30
"""Size of one machine's cache; jax evicts the least recently used programs. A small network takes 0.1 MB."""

_PROGRAM, _USED = "-cache", "-atime"
_WRITING = "/jax/compilation_cache/cache_misses"
_COMPILED = "/jax/core/compile/backend_compile_duration"
_PROBLEMS = r"Error (reading|writing) persistent compilation cache entry"


def use_program_cache(folder: Path) -> None:
    """Keep compiled programs in `folder`, for this process, by jax's own compilation cache.

    Programs that a power cut or a failing disk has changed are removed, which is warned of once. Where nothing can be
    written any more, a warning says so and the process goes on without the cache. Does nothing if the user has turned
    that cache on already (`JAX_COMPILATION_CACHE_DIR`).

    Args:
        folder: a private folder, since cached programs are executed. Programs are kept in a subfolder for what jax's
            key does not contain: the processor's instructions and, on a CPU, the number of usable cores.
    """
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    cores = len(usable_cores()) if jax.default_backend() == "cpu" else 0
    machine = hashlib.sha256(f"{processor()}, {cores} cores".encode()).hexdigest()[:12]
    programs = folder / f"programs-{machine}"
    kept = _KeptPrograms(programs)
    try:
        kept.check()
    except OSError as error:
        _without(programs, error)
        return
    settings = {
        "jax_compilation_cache_dir": str(programs),
        "jax_compilation_cache_max_size": CACHE_BYTES,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,  # no minimum
    }
    for name, value in settings.items():
        _configure(name, value)
    compilation_cache.reset_cache()  # jax looks at these settings when it first compiles, and not again
    warnings.filterwarnings("ignore", _PROBLEMS, UserWarning)  # one for each program; what it means is said once
    jax.monitoring.register_event_listener(kept.on_event)
    jax.monitoring.register_event_duration_secs_listener(kept.on_duration)


class _KeptPrograms:
    """The programs of a folder, of which `NAME-cache` is written first and `NAME-atime` last."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._digests = folder, DigestList(folder)
        self._adding, self._thread, self._given_up = threading.Lock(), threading.local(), False

    def check(self) -> None:
        """Removes what must not be executed: what a killed process did not write to its end, and what has changed."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._digests.read()
        damaged = 0
        for program in self._programs():
            try:
                good = program.name in self._digests and _is_written(program) and self._digests.matches(program.name)
            except FileNotFoundError:  # another process has removed it
                continue
            if not good:
                damaged += program.name in self._digests and _is_written(program)
                program.unlink(missing_ok=True)
                _used(program).unlink(missing_ok=True)
        if damaged:
            text = (
                f"{plural(damaged, 'kept program')} in {self._folder} had changed on the disk: removed, compiled anew"
            )
            warnings.warn(text, stacklevel=3)

    def on_event(self, event: str, **_: Any) -> None:
        """Notes that jax is about to write a program."""
        if event == _WRITING:
            self._thread.writing = True

    def on_duration(self, event: str, duration_secs: float, **_: Any) -> None:
        """Adds the digest of a program that jax has compiled and written."""
        del duration_secs
        if event != _COMPILED or not getattr(self._thread, "writing", False):
            return
        self._thread.writing = False
        try:
            with self._adding:
                self._add_new()
        except OSError as error:
            if not self._given_up:
                self._given_up = True
                _without(self._folder, error)

    def _add_new(self) -> None:
        new = [program for program in self._programs() if self._is_new(program)]
        written = [program.name for program in new if _is_written(program)]
        if len(written) < max(len(new), 1):  # another process has written it, or writes at this moment; or none can
            check_room(self._folder)
        self._digests.add(written)

    def _is_new(self, program: Path) -> bool:
        try:  # jax may have removed it, and compiled it again
            return not self._digests.is_current(program.name)
        except FileNotFoundError:
            return False

    def _programs(self) -> list[Path]:
        return [Path(entry) for entry in os.scandir(self._folder) if entry.name.endswith(_PROGRAM)]


def _used(program: Path) -> Path:
    return program.with_name(program.name.removesuffix(_PROGRAM) + _USED)


def _is_written(program: Path) -> bool:
    return _used(program).exists()


def _without(folder: Path, error: OSError) -> None:
    """Turns the cache off, and says so."""
    _configure("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    warnings.warn(f"compiled programs are not kept any more: {folder}: {error.strerror or error}", stacklevel=3)


def _configure(name: str, value: Any) -> None:
    jax.config.update(name, value)  # type: ignore[no-untyped-call]  # jax has no types here
