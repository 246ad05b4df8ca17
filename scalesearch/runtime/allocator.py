"""What the C library's allocator keeps of what is freed."""

from __future__ import annotations

import ctypes

from scalesearch.runtime.cores import usable_cores

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h
_MEBIBYTE = 2**20


def tune() -> None:
    """Has glibc keep less of what is freed, for a process that trains one network after the other.

    It serves threads from an arena a core at most: each keeps what was freed in it, and XLA compiles every network in
    new threads, which would be spread over eight a core. And from a mebibyte on a block is memory of its own that
    goes back when freed: else that size grows with the blocks that were, and they leave gaps. Comes before other
    threads; does nothing where the allocator is another.
    """
    _call_of_glibc("mallopt", _M_ARENA_MAX, len(usable_cores()))
    _call_of_glibc("mallopt", _M_MMAP_THRESHOLD, _MEBIBYTE)


def trim() -> None:
    """Gives freed memory back to the system, as far as glibc can."""
    _call_of_glibc("malloc_trim", 0)


def _call_of_glibc(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
