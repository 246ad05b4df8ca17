"""What comes before the first step of a network: its data on the device, and its compiled functions."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import time
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt32

from scalesearch.data.feed import EpochData, prepare
from scalesearch.data.splits import Splits, check_fits
from scalesearch.errors import InputError
from scalesearch.models.ops.select import select
from scalesearch.runtime import interrupts
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.programs import in_background
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import RuntimeSection, TrainingSection
from scalesearch.training.compile import Program, compile_program
from scalesearch.training.memory import PLAIN, MemoryPlan, bytes_available, is_exhausted, memory_plans
from scalesearch.training.parallel.data import Shardings, shardings_of
from scalesearch.training.schedule import Schedule, count_steps, schedule_of

CORES_AHEAD = 4
"""Cores that this process needs for `compile_ahead` to be on by itself: XLA compiles on several, and a step wants its
own."""

EXIT_SECONDS = 30.0
"""The longest that a process which ends waits for the preparation of a network that will not be trained."""

Task = tuple[ArchitectureSpec, tuple[int, ...]]
"""A network, and the seeds that it trains for."""

Groups = tuple[UInt32[np.ndarray, "*s"], ...]
"""Seeds as they run: scalars one after the other, or one vector side by side."""


class Way(NamedTuple):
    """How a network trains for its seeds: `groups` follow one another, each step is as `plan` says.

    The plainest has `number` 0; each needs less memory than the one before.
    """

    number: int
    groups: Groups
    plan: MemoryPlan


@dataclass(frozen=True, slots=True)
class Prepared:
    """A network ready to train in one `way`; `seconds` is what that took."""

    way: Way
    program: Program
    data: EpochData
    schedule: Schedule
    images_per_epoch: int
    seconds: float


def prepare_training(
    spec: ArchitectureSpec,
    splits: Splits,
    training: TrainingSection,
    runtime: RuntimeSection,
    seeds: tuple[int, ...],
) -> Prepared:
    """The data of `spec` and its functions, compiled for the plainest way of training that fits into memory.

    Raises `InputError` where network and data do not fit. Warns where batches train in parts, and where even the way
    that needs least needs more than there is.
    """
    check_fits(spec, splits, training.batch_size)
    start = time.perf_counter()
    with settings_of_jax():
        steps = count_steps(training, len(splits.train))
        data = prepare(splits.train, splits.validation, spec.resolution, training.batch_size)
        schedule = schedule_of(training, steps)
        available, refused = bytes_available(runtime), None
        for way in _ways(seeds, runtime, training.batch_size):
            if refused is not None and way.plan.micro_batches > 1:
                break
            try:
                program, shardings = _compiled(spec, training, runtime, data, schedule, way)
            except jax.errors.JaxRuntimeError as error:  # a compiler that counts memory itself
                if not is_exhausted(error):
                    raise
                refused = error
                continue
            refused = None
            if program.bytes_needed <= available:
                break
        else:
            if refused is None:
                warnings.warn(
                    f"a network needs {program.bytes_needed / 2**20:,.1f} MiB in the way of training that needs least, "
                    f"but there are {available / 2**20:,.1f}: it is tried all the same",
                    stacklevel=2,
                )
        if refused is not None:
            raise refused
        if shardings is not None:
            data = jax.device_put(data, shardings.data)
    if (parts := way.plan.micro_batches) > 1:
        warnings.warn(
            f"a network does not fit into memory: each of its batches of {training.batch_size} images trains in "
            f"{parts} parts, which normalises by the statistics of {training.batch_size // parts} images",
            stacklevel=2,
        )
    images = steps.per_epoch * training.batch_size
    return Prepared(way, program, data, schedule, images, time.perf_counter() - start)


def prepare_again(
    too_large: Prepared,
    spec: ArchitectureSpec,
    training: TrainingSection,
    runtime: RuntimeSection,
    seeds: tuple[int, ...],
) -> Prepared | None:
    """The same in the next way, which needs less memory; None where that would change results.

    For a network that found less memory than the device has. How much others leave must not decide what it computes:
    only `prepare_training` lets batches train in parts, by the sizes of network and device.
    """
    start = time.perf_counter()
    with settings_of_jax():
        for way in _ways(seeds, runtime, training.batch_size):
            if way.number > too_large.way.number and way.plan.micro_batches == 1:
                program, _ = _compiled(spec, training, runtime, too_large.data, too_large.schedule, way)
                seconds = too_large.seconds + time.perf_counter() - start
                return dataclasses.replace(too_large, way=way, program=program, seconds=seconds)
    return None


def check_runtime(training: TrainingSection, runtime: RuntimeSection) -> None:
    """Raises `InputError` for settings that cannot be had on this machine."""
    shardings = shardings_of(runtime.data_parallel, training.batch_size, training.batch_size, vector=False)
    sharded = shardings is not None
    select(runtime.convolutions, jax.default_backend(), precision=training.precision, sharded=sharded)


def _compiled(
    spec: ArchitectureSpec,
    training: TrainingSection,
    runtime: RuntimeSection,
    data: EpochData,
    schedule: Schedule,
    way: Way,
) -> tuple[Program, Shardings | None]:
    interrupts.check()
    seeds = way.groups[0]
    evaluated, vector = data.val_labels.shape[1], bool(seeds.ndim)
    shardings = shardings_of(runtime.data_parallel, training.batch_size, evaluated, vector=vector)
    sharded = shardings is not None
    operations = select(runtime.convolutions, jax.default_backend(), precision=training.precision, sharded=sharded)
    return compile_program(spec, operations, training, data, schedule, seeds, way.plan, shardings), shardings


class Ahead:
    """Prepares the network that is expected next while another one trains, in a thread of its own."""

    def __init__(self, splits: Splits, training: TrainingSection, runtime: RuntimeSection) -> None:
        self._arguments = (splits, training, runtime)
        self._expected: dict[Task, Future[Prepared]] = {}
        self._begun = begun = weakref.WeakSet[Future[Prepared]]()
        # an interpreter that ends while jax traces in another thread aborts
        atexit.register(lambda: wait(list(begun), timeout=EXIT_SECONDS))

    @staticmethod
    def pays(setting: bool | Literal["auto"]) -> bool:
        """Whether to do so: `auto` where this process has `CORES_AHEAD` cores."""
        return len(usable_cores()) >= CORES_AHEAD if setting == "auto" else setting

    def expect(self, spec: ArchitectureSpec, seeds: tuple[int, ...]) -> None:
        """Begin to prepare `spec`. Only what was expected last before it is remembered beside it."""
        future = in_background(lambda: prepare_training(spec, *self._arguments, seeds))
        self._begun.add(future)
        self._expected = {**dict([*self._expected.items()][-1:]), (spec, seeds): future}

    def take(self, spec: ArchitectureSpec, seeds: tuple[int, ...]) -> Prepared | None:
        """`spec` made ready, once that is done; None where it was not expected, or found no memory beside another."""
        future = self._expected.pop((spec, seeds), None)
        if future is None:
            return None
        wait([future])
        try:
            return future.result()
        except jax.errors.JaxRuntimeError as error:
            if not is_exhausted(error):
                raise
            return None


@contextlib.contextmanager
def settings_of_jax() -> Iterator[None]:
    """Settings of jax that a user may have changed, and that would change the draws or the types."""
    with jax.enable_x64(False), jax.threefry_partitionable(True):
        yield


def _ways(seeds: tuple[int, ...], runtime: RuntimeSection, batch_size: int) -> list[Way]:
    """From the plainest on."""
    groups = _groups(seeds, runtime)
    alone = tuple(np.array(seed, np.uint32) for seed in seeds)
    ways = [(groups, PLAIN)] if groups[0].ndim else []
    ways += [(alone, plan) for plan in memory_plans(batch_size)]
    return [Way(number, *way) for number, way in enumerate(ways)]


def _groups(seeds: tuple[int, ...], runtime: RuntimeSection) -> Groups:
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**32:
        raise InputError(f"`seeds` must be whole numbers from 0 to 2³² − 1, at least one, but got {seeds}")
    together = runtime.seeds_together
    if together == "auto":
        together = jax.default_backend() != "cpu"
    if together and len(seeds) > 1:
        return (np.array(seeds, np.uint32),)
    return tuple(np.array(seed, np.uint32) for seed in seeds)
