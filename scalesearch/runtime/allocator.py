"""How much freed memory the C library's allocator keeps; only glibc's can be set."""

from __future__ import annotations

import ctypes
import sys

from scalesearch.runtime.cores import usable_cores

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h
_MEBIBYTE = 2**20


def tune() -> None:
    """Let glibc keep less freed memory, for a process that trains one network after another.

    Call it before other threads start.

    - At most one arena a core: each keeps what was freed in it, and XLA compiles every network in new threads, which
      glibc would spread over eight arenas a core.
    - Each block of a mebibyte or more is mapped by itself and returned when freed. By default this limit grows with
      the blocks freed so far, and the gaps they leave are kept.
    """
    _call_glibc("mallopt", _M_ARENA_MAX, len(usable_cores()))
    _call_glibc("mallopt", _M_MMAP_THRESHOLD, _MEBIBYTE)


def trim() -> None:
    """Return freed memory to the system, as far as glibc can."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *arguments: int) -> None:
    function = None if sys.platform == "win32" else getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
