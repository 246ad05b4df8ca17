"""The processor cores that this process uses; without affinity (macOS) the scheduler decides."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from scalesearch.errors import InputError
from scalesearch.runtime.text import enumerated


def usable_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def use_cores(cores: Sequence[int]) -> None:
    """Keep this process to `cores`. Call it before jax starts its threads.

    Raises `InputError` if this machine, or its container, has none of them.
    """
    if hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, cores)
        except (OSError, OverflowError):
            asked, there = (enumerated([str(core) for core in each]) for each in (cores, usable_cores()))
            raise InputError(f"there is no core {asked}: this process has {there}") from None


@cache
def processor() -> str:
    """The machine and the instruction sets of its processor, as one string that tells processors apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {features}"
