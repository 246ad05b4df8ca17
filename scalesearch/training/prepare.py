"""What comes before the first step of a network: its data on the device, and its compiled functions."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import UInt32

from scalesearch.data.cache import OnDone
from scalesearch.data.feed import EpochData, Feed, prepare
from scalesearch.data.splits import Splits, check_fits
from scalesearch.errors import InputError
from scalesearch.models.ops.select import select
from scalesearch.runtime import interrupts
from scalesearch.runtime.exhaustion import is_exhausted
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import RuntimeSection
from scalesearch.study.training import TrainingSection, TrainSection
from scalesearch.training.compile import Program, compile_program
from scalesearch.training.memory import PLAIN, MemoryPlan, bytes_available, memory_plans
from scalesearch.training.parallel.data import Shardings, shardings_of
from scalesearch.training.schedule import Schedule, schedule_of

Groups = tuple[UInt32[np.ndarray, "*s"], ...]
"""Seeds as they run: scalars one after the other, or one vector side by side."""

Compiler = Callable[..., Program]
"""Compiles a network, as `compile_program` does."""


ExecutionPlan = tuple[Groups, MemoryPlan]
"""How a network trains for its seeds: group after group, each step by the memory plan."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A network that is ready to train its seeds in `groups`; preparing it took `seconds`.

    `smaller` are the execution plans that need less memory, the next one first.
    """

    groups: Groups
    smaller: tuple[ExecutionPlan, ...]
    program: Program
    data: Feed
    schedule: Schedule
    images_per_epoch: int
    seconds: float


def prepare_training(
    spec: ArchitectureSpec,
    splits: Splits,
    training: TrainingSection,
    runtime: RuntimeSection,
    seeds: tuple[int, ...],
    *,
    plans: Sequence[MemoryPlan] | None = None,
    compiler: Compiler = compile_program,
    on_images: OnDone = lambda resolution, done, total: None,
    must_fit: bool = False,
) -> Prepared:
    """The data of `spec` and its functions, compiled for the first execution plan that fits into memory.

    Warns if batches train in parts, and if even the last plan needs more memory than there is.

    Args:
        spec: the network.
        splits: the data.
        training: the schedule.
        runtime: how the work is carried out.
        seeds: the seeds that it trains for.
        plans: memory plans to try in this order; None for those of `memory_plans`.
        compiler: compiles the network.
        on_images: called while pictures are decoded.
        must_fit: raise an error instead of that last warning.

    Raises:
        InputError: network and data do not fit, or the machine cannot do what `runtime` asks for.
    """
    check_fits(spec, splits, training.batch_size)
    start = time.perf_counter()
    with settings_of_jax():
        available = bytes_available(runtime)
        data = prepare(
            splits.train,
            splits.validation,
            spec.resolution,
            training.batch_size,
            evaluation_resolution=training.evaluation_resolution if isinstance(training, TrainSection) else None,
            balanced=splits.uneven,
            memory=available,
            on_images=on_images,
        )
        schedule = schedule_of(training, len(splits.train))

        # The first plan whose program fits. A compiler that counts memory itself may refuse a plan (GPU).
        refused = None
        left = _execution_plans(seeds, runtime, plans or memory_plans(training.batch_size))
        while left:
            (groups, memory), *left = left
            if refused is not None and memory.micro_batches > 1:
                break
            try:
                program, shardings = _compiled(spec, training, runtime, data, schedule, groups, memory, compiler)
            except Exception as error:
                if not is_exhausted(error):
                    raise
                refused = error
                continue
            refused = None
            if program.bytes_needed <= available:
                break
        else:
            if refused is None:
                told = (
                    f"a network needs {program.bytes_needed / 2**20:,.1f} MiB even with the most economical plan, "
                    f"but only {available / 2**20:,.1f} MiB are available"
                )
                if must_fit:
                    raise InputError(f"{told}: take a smaller φ, resolution or batch")
                warnings.warn(f"{told}: trying anyway", stacklevel=2)
        if refused is not None:
            raise refused

        if shardings is not None and isinstance(data, EpochData):
            data = jax.device_put(data, shardings[1])
    if (parts := memory.micro_batches) > 1:
        warnings.warn(
            f"a network does not fit into memory: each of its batches of {training.batch_size} images trains in "
            f"{parts} parts, which normalises by the statistics of {training.batch_size // parts} images",
            stacklevel=2,
        )
    images = len(splits.train) // training.batch_size * training.batch_size
    return Prepared(groups, tuple(left), program, data, schedule, images, time.perf_counter() - start)


def prepare_smaller(
    too_large: Prepared,
    spec: ArchitectureSpec,
    training: TrainingSection,
    runtime: RuntimeSection,
    *,
    compiler: Compiler = compile_program,
) -> Prepared | None:
    """The same training by the next plan, which needs less memory; None if that would change results.

    For a network that found less memory free than the device has. How much memory others use must not decide what it
    computes: only `prepare_training`, which goes by the sizes of network and device, lets batches train in parts.
    """
    start = time.perf_counter()
    with settings_of_jax():
        for place, (groups, memory) in enumerate(too_large.smaller, 1):
            if memory.micro_batches == 1:
                data, schedule = too_large.data, too_large.schedule
                program, _ = _compiled(spec, training, runtime, data, schedule, groups, memory, compiler)
                return dataclasses.replace(
                    too_large,
                    groups=groups,
                    smaller=too_large.smaller[place:],
                    program=program,
                    seconds=too_large.seconds + time.perf_counter() - start,
                )
    return None


def check_runtime(training: TrainingSection, runtime: RuntimeSection) -> None:
    """Raises `InputError` for settings that this machine cannot carry out."""
    shardings = shardings_of(runtime.data_parallel, training.batch_size, training.batch_size, vector=False)
    sharded = shardings is not None
    select(runtime.convolutions, jax.default_backend(), precision=training.precision, sharded=sharded)


def _compiled(
    spec: ArchitectureSpec,
    training: TrainingSection,
    runtime: RuntimeSection,
    data: Feed,
    schedule: Schedule,
    groups: Groups,
    memory: MemoryPlan,
    compiler: Compiler,
) -> tuple[Program, Shardings | None]:
    interrupts.check()
    seeds = groups[0]
    evaluated, vector = data.val_labels.shape[1], bool(seeds.ndim)
    shardings = shardings_of(runtime.data_parallel, training.batch_size, evaluated, vector=vector)
    sharded = shardings is not None
    operations = select(runtime.convolutions, jax.default_backend(), precision=training.precision, sharded=sharded)
    return compiler(spec, operations, training, data, schedule, seeds, memory, shardings), shardings


@contextlib.contextmanager
def settings_of_jax() -> Iterator[None]:
    """Fix settings of jax that change draws or types, whatever the user has set."""
    with jax.enable_x64(False), jax.threefry_partitionable(True):
        yield


def _execution_plans(
    seeds: tuple[int, ...], runtime: RuntimeSection, plans: Sequence[MemoryPlan]
) -> list[ExecutionPlan]:
    """Seeds side by side first, if they are to be; then one after the other by each of the memory plans."""
    groups = _groups(seeds, runtime)
    apart = tuple(np.array(seed, np.uint32) for seed in seeds)
    together = [(groups, PLAIN)] if groups[0].ndim else []
    return [*together, *((apart, plan) for plan in plans)]


def _groups(seeds: tuple[int, ...], runtime: RuntimeSection) -> Groups:
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**32:
        raise InputError(f"`seeds` must be whole numbers from 0 to 2³² − 1, at least one, but got {seeds}")
    together = runtime.seeds_together
    if together == "auto":
        together = jax.default_backend() != "cpu"
    if together and len(seeds) > 1:
        return (np.array(seeds, np.uint32),)
    return tuple(np.array(seed, np.uint32) for seed in seeds)
