"""Memory that the system refuses: the errors that say so, in any library's words, and the limits of this process."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
from pathlib import Path

from scalesearch.runtime.text import first_line

_REFUSED = re.compile(
    r"RESOURCE_EXHAUSTED|MemoryError"  # XLA, Python
    r"|bad_alloc|out of memory|cannot allocate memory|memory allocation .*failed"  # C++, the loader, OpenBLAS
    r"|failed to map segment"  # the loader
    r"|can't start new thread|pthread_create|thread constructor failed",  # no room for its stack
    re.IGNORECASE,
)
_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_RUNTIME_BYTES = 2**30
"""Address space that Python, jax, its compiler and their threads take in a worker."""


def is_exhausted(error: BaseException) -> bool:
    """Whether `error` says that the system refused memory, or a thread.

    >>> is_exhausted(MemoryError()), is_exhausted(RuntimeError("can't start new thread")), is_exhausted(OSError(2, ""))
    (True, True, False)
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # `jax.errors.JaxRuntimeError` is a RuntimeError; a library that cannot be loaded is an ImportError.
    return isinstance(error, RuntimeError | ImportError | OSError) and says_exhausted(str(error))


def says_exhausted(text: str) -> bool:
    """Whether a line that a library printed before it aborted says that memory, or a thread, was refused."""
    return _REFUSED.search(text) is not None


def explained(error: BaseException) -> str:
    """A clause for the user on an error of `is_exhausted`."""
    cause = f"the system refuses memory ({first_line(error)})"
    return f"{cause}; raise the limit (`ulimit -v`, a container's), or close other programs"


def memory_limit(workers: int = 1) -> float:
    """Bytes of memory that one of `workers` processes may take on this machine; infinite if that is unknown.

    That of the machine or its container, which the workers share, or what `ulimit -v` leaves beside the runtime. Not
    what is free now: it must not depend on what else runs.
    """
    shared, address_space = math.inf, math.inf
    if "SC_PHYS_PAGES" in os.sysconf_names:
        shared = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _CGROUP_FILES:
        with contextlib.suppress(OSError, ValueError):  # the file may be missing, or say "max"
            shared = min(shared, float(int(Path(path).read_text(encoding="ascii"))))
    with contextlib.suppress(ImportError):  # Windows
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        address_space = math.inf if soft == resource.RLIM_INFINITY else float(soft)
    # Under a limit near what the runtime takes, a part of it: small networks need little, and to try costs little.
    return min(shared / workers, max(address_space - _RUNTIME_BYTES, address_space / 4))
