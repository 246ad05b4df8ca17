"""What comes before the first step of a network: its data on the device, and its compiled functions."""

from __future__ import annotations

import atexit
import contextlib
import time
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from jaxtyping import UInt32

from scalesearch import interrupts
from scalesearch.config import InputError, RuntimeSection, TrainingSection
from scalesearch.cores import usable_cores
from scalesearch.models.network import Precision
from scalesearch.models.ops import Forms, FormsUnavailable, choose_forms
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.training.data import Splits, check_fits
from scalesearch.training.executables import in_background
from scalesearch.training.memory import PLAIN, MemoryPlan, bytes_available, is_exhausted, memory_plans
from scalesearch.training.parallel import shardings_of
from scalesearch.training.pipeline import EpochData, prepare
from scalesearch.training.program import Program, compile_program
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A network ready to train for `groups` of seeds; `seconds` is what that took."""

    groups: Groups
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
    too_large: Prepared | None = None,
) -> Prepared:
    """The data of `spec` and its functions, compiled for the plainest way of training that fits into memory.

    With `too_large`, the same made ready in a way that did not fit, it is one that needs less, and its data are used
    on. Raises `InputError` where network and data do not fit. Warns where batches train in parts, and where even the
    way that needs least needs more than there is.
    """
    check_fits(spec, splits, training.batch_size)
    start = time.perf_counter()
    with settings_of_jax():
        steps = count_steps(training, len(splits.train))
        if too_large is None:
            data = prepare(splits.train, splits.validation, spec.resolution, training.batch_size)
        else:
            data = too_large.data
        schedule = schedule_of(training, steps)
        available, refused = bytes_available(runtime), None
        if too_large is not None:
            available = min(available, too_large.program.bytes_needed - 1)
        for groups, plan in _ways(seeds, runtime, training.batch_size):
            interrupts.check()
            evaluated, vector = data.val_labels.shape[1], bool(groups[0].ndim)
            shardings = shardings_of(runtime.data_parallel, training.batch_size, evaluated, vector=vector)
            forms = forms_of(runtime, training.precision, spread=shardings is not None)
            try:
                program = compile_program(spec, forms, training, data, schedule, groups[0], plan, shardings)
            except jax.errors.JaxRuntimeError as error:  # some compilers count memory themselves
                if not is_exhausted(error):
                    raise
                refused = error
                continue
            refused = None
            if program.bytes_needed <= available:
                break
        else:
            if refused is not None:
                raise refused
            warnings.warn(
                f"a network needs {program.bytes_needed / 2**20:,.1f} MiB in the way of training that needs least, "
                f"but there are {available / 2**20:,.1f}: it is tried all the same",
                stacklevel=2,
            )
        if shardings is not None:
            data = jax.device_put(data, shardings.data)
    if plan.micro_batches > 1:
        warnings.warn(
            f"a network does not fit into memory: each of its batches of {training.batch_size} images trains in "
            f"{plan.micro_batches} parts, which normalises by the statistics of "
            f"{training.batch_size // plan.micro_batches} images",
            stacklevel=2,
        )
    images = steps.per_epoch * training.batch_size
    return Prepared(groups, program, data, schedule, images, time.perf_counter() - start)


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
        """`spec` made ready, once that is done; None where it was not expected."""
        future = self._expected.pop((spec, seeds), None)
        if future is None:
            return None
        wait([future])
        return future.result()


@contextlib.contextmanager
def settings_of_jax() -> Iterator[None]:
    """Settings of jax that a user may have changed, and that would change the draws or the types."""
    with jax.enable_x64(False), jax.threefry_partitionable(True):
        yield


def forms_of(runtime: RuntimeSection, precision: Precision, *, spread: bool) -> Forms:
    """The forms for float32 or bfloat16 maps, of batches `spread` over devices or not."""
    try:
        forms = choose_forms(runtime.convolutions, jax.default_backend())
        if forms == "kernels" and (spread or precision != "float32"):
            if runtime.convolutions == "kernels":
                raise FormsUnavailable(
                    "kernels compute whole batches in float32 (`training.precision`, `data_parallel`)"
                )
            return "shift"
        if forms == "pallas" and spread:  # XLA cannot cut the call of a kernel into parts
            if runtime.convolutions == "pallas":
                raise FormsUnavailable("pallas computes whole batches (`data_parallel`)")
            return "native"
        return forms
    except FormsUnavailable as error:
        raise InputError(f'`runtime.convolutions` = "{runtime.convolutions}" cannot be had: {error}') from None


def _ways(seeds: tuple[int, ...], runtime: RuntimeSection, batch_size: int) -> Iterator[tuple[Groups, MemoryPlan]]:
    """Seeds in groups, and the plan of a step: from the plainest on, each needs less memory than the one before."""
    groups = _groups(seeds, runtime)
    if groups[0].ndim:
        yield groups, PLAIN
    alone = tuple(np.array(seed, np.uint32) for seed in seeds)
    for plan in memory_plans(batch_size):
        yield alone, plan


def _groups(seeds: tuple[int, ...], runtime: RuntimeSection) -> Groups:
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**32:
        raise InputError(f"`seeds` must be whole numbers from 0 to 2³² − 1, at least one, but got {seeds}")
    together = runtime.seeds_together
    if together == "auto":
        together = jax.default_backend() != "cpu"
    if together and len(seeds) > 1:
        return (np.array(seeds, np.uint32),)
    return tuple(np.array(seed, np.uint32) for seed in seeds)
