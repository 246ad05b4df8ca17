"""How a step is laid out in memory: the plainest way that fits; and what compiling leaves behind."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import jax

from scalesearch.runtime import allocator
from scalesearch.study.sections import RuntimeSection

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
    """What one program may take: `runtime.memory`, else all that the device has; infinite where it does not tell.

    Not what is free now: how a network trains must not depend on what else runs. The workers share a host's memory.
    """
    if runtime.memory is not None:
        return runtime.memory * _GIBIBYTE
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return float(statistics["bytes_limit"])
    if jax.default_backend() == "cpu" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / runtime.workers
    return math.inf


def is_exhausted(error: jax.errors.JaxRuntimeError) -> bool:
    """Whether XLA gave up for want of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)


def release() -> None:
    """Gives back what tracing and compiling left in memory, for a process that trains one network after the other.

    What is compiled already stays usable; the caller's own jitted functions compile again when they are called next.
    A network that another thread traces meanwhile is traced in more parts, to the same numbers.
    """
    jax.clear_caches()  # type: ignore[no-untyped-call]  # jax has no types here
    allocator.trim()
