"""How a step is laid out in memory: the plan that needs least of it, and what compiling leaves behind."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax

from scalesearch.runtime import allocator
from scalesearch.runtime.exhaustion import memory_limit
from scalesearch.study.sections import RuntimeSection

_GIBIBYTE = 2**30


class MemoryPlan(NamedTuple):
    """How to carry out a step.

    Args:
        remat: compute the inside of each block again for its gradient; changes no result.
        micro_batches: cut a batch into this many parts, one after the other, and average their gradients. Each part is
            normalised by the statistics of its images, which changes results.
    """

    remat: bool = False
    micro_batches: int = 1


PLAIN = MemoryPlan()


def memory_plans(batch_size: int) -> tuple[MemoryPlan, ...]:
    """The plans from the one that needs most memory to the one that needs least; a part has at least two images.

    >>> [plan.micro_batches for plan in memory_plans(8)]
    [1, 1, 2, 4]
    """
    parts = [count for count in range(2, batch_size // 2 + 1) if batch_size % count == 0]
    return PLAIN, MemoryPlan(remat=True), *(MemoryPlan(True, count) for count in parts)


def bytes_needed(program: jax.stages.Compiled) -> int:
    """Bytes of arguments, results and temporaries of `program` on one device, as XLA counts them; 0 if it does not."""
    analysis: Any = program.memory_analysis()
    if analysis is None:
        return 0
    sizes = (analysis.argument_size_in_bytes, analysis.output_size_in_bytes, analysis.temp_size_in_bytes)
    return int(sum(sizes) - analysis.alias_size_in_bytes)


def bytes_available(runtime: RuntimeSection) -> float:
    """Bytes that one program may take: `runtime.memory`, or all memory of the device; infinite if that is unknown.

    Not what is free now: how a network trains must not depend on what else runs. Workers share a host's memory, and
    its limits (`ulimit -v`, a container's) count.
    """
    if runtime.memory is not None:
        return runtime.memory * _GIBIBYTE
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return float(statistics["bytes_limit"])
    if jax.default_backend() == "cpu":
        return memory_limit(runtime.workers)
    return math.inf


def release() -> None:
    """Return memory that tracing and compiling left, for a process that trains one network after the other.

    Compiled programs stay usable; jitted functions compile again when they are called next. A network that another
    thread is tracing is traced in more parts, to the same numbers.
    """
    jax.clear_caches()  # type: ignore[no-untyped-call]  # jax has no types here
    allocator.trim()
