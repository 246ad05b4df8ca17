"""How a step is laid out in memory: the plainest way that fits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax

from scalesearch.config import RuntimeSection

_GIBIBYTE = 2**30


class MemoryPlan(NamedTuple):
    """One way to carry out a step.

    `remat`: the gradient computes the inside of each block anew, which changes no result. `micro_batches`: parts of a
    batch that follow one another, their gradients averaged; each is normalised by its own statistics.
    """

    remat: bool = False
    micro_batches: int = 1


PLAIN = MemoryPlan()


def memory_plans(batch_size: int) -> tuple[MemoryPlan, ...]:
    """From the one that needs most to the one that needs least; two images a part are the fewest."""
    parts = [count for count in range(2, batch_size // 2 + 1) if batch_size % count == 0]
    return PLAIN, MemoryPlan(remat=True), *(MemoryPlan(True, count) for count in parts)


def bytes_needed(program: jax.stages.Compiled) -> int:
    """Arguments, results and temporaries of `program` on one device, by XLA's own account; 0 where it gives none."""
    analysis: Any = program.memory_analysis()
    if analysis is None:
        return 0
    sizes = (analysis.argument_size_in_bytes, analysis.output_size_in_bytes, analysis.temp_size_in_bytes)
    return int(sum(sizes) - analysis.alias_size_in_bytes)


def bytes_available(runtime: RuntimeSection) -> float:
    """What one program may take: `runtime.memory`, else what the device has free; infinite where it does not tell."""
    if runtime.memory is not None:
        return runtime.memory * _GIBIBYTE
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return float(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0))
    return _host_bytes() / runtime.workers if jax.default_backend() == "cpu" else math.inf


def _host_bytes() -> float:
    """What programs can take without swapping, as Linux estimates it; elsewhere unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), math.inf)
