"""Which processor cores this process uses; systems without affinity (macOS) leave it to the scheduler."""

from __future__ import annotations

import os
from collections.abc import Sequence


def usable_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def use_cores(cores: Sequence[int]) -> None:
    """Keep to `cores`. Must come before jax starts its threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
