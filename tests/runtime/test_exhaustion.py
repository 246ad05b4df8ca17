"""Memory that the system refuses, by real limits of processes of their own."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from scalesearch.runtime.exhaustion import is_exhausted, says_exhausted

ROOT = Path(__file__).parents[2]


def limited(code: str, limit: int = 2**28) -> list[str]:
    """What `code` prints in a process whose address space is limited."""
    begin = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit},) * 2)\n"
    command = [sys.executable, "-c", begin + "from scalesearch.runtime import exhaustion\n" + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def test_numpys_and_xlas_errors() -> None:
    with pytest.raises(MemoryError) as refused:
        np.zeros(2**59)
    assert is_exhausted(refused.value)
    assert is_exhausted(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."))
    reserved = "RESOURCE_EXHAUSTED: Attempting to reserve 5.00G at the bottom of memory. That was not possible."
    assert is_exhausted(jax.errors.JaxRuntimeError(reserved))
    assert not is_exhausted(jax.errors.JaxRuntimeError("INTERNAL: the requested functionality is not supported"))
    assert not is_exhausted(ValueError("out of memory"))


@pytest.mark.parametrize(
    "line",
    [
        "MemoryError: Unable to allocate 8.00 GiB for an array",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "libjax.so: failed to map segment from shared object",
        "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 8: Resource temporarily unavailable",
        "libc++abi: terminating due to uncaught exception: thread constructor failed: Resource temporarily unavailable",
    ],
)
def test_what_libraries_print(line: str) -> None:
    assert says_exhausted(line)
    assert is_exhausted(ImportError(line))
    assert not is_exhausted(ValueError(line))


def test_an_error_of_the_system_in_any_language() -> None:
    assert is_exhausted(OSError(errno.ENOMEM, "Nicht genügend Hauptspeicher verfügbar"))
    assert not is_exhausted(OSError(errno.ENOSPC, "No space left on device"))


def test_errors_of_python_under_a_limit() -> None:
    code = """
import mmap, threading, time
def threads():
    threading.stack_size(2**27)
    for _ in range(9):
        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
for refused in (lambda: bytearray(2**29), lambda: mmap.mmap(-1, 2**29), threads):
    try:
        refused()
    except Exception as error:
        print(type(error).__name__, exhaustion.is_exhausted(error))
"""
    assert limited(code) == ["MemoryError", "True", "OSError", "True", "RuntimeError", "True"]


def test_a_limit_of_the_process_bounds_what_its_networks_may_take() -> None:
    code = "print(exhaustion.memory_limit(workers=1))"
    assert limited(code) == [str(2.0**26)]
    assert limited(code, 3 * 2**29) == [str(2.0**29)]


def test_workers_share_the_memory_of_the_machine() -> None:
    code = "print(exhaustion.memory_limit(workers=1) / exhaustion.memory_limit(workers=4))"
    assert limited(code, 2**50) == ["4.0"]
