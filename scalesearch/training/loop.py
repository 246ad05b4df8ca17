"""The training of one network for its seeds: epoch after epoch, reported, watched for divergence."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import UInt32

from scalesearch import interrupts
from scalesearch.config import InputError, RuntimeSection, TrainingSection
from scalesearch.models.ops import choose_forms
from scalesearch.records import SeedRecord
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.training.data import Splits, check_fits
from scalesearch.training.draws import draws_of_epoch
from scalesearch.training.memory import PLAIN, MemoryPlan, bytes_available, memory_plans
from scalesearch.training.parallel import shardings_of
from scalesearch.training.pipeline import EpochData, prepare
from scalesearch.training.program import Program, compile_program
from scalesearch.training.schedule import Schedule, count_steps, schedule_of
from scalesearch.training.sources import Split

_POLL_SECONDS = 0.005


class TrainingDiverged(RuntimeError):
    """The loss of a seed stopped being finite."""

    def __init__(self, seed: int, epoch: int, learning_rate: float, losses: tuple[float, float]) -> None:
        self.seed, self.epoch, self.learning_rate, self.losses = seed, epoch, learning_rate, losses
        super().__init__(
            f"loss must stay finite, but in epoch {epoch} of seed {seed} training loss was {losses[0]:g} and "
            f"validation loss {losses[1]:g}; the learning rate peaks at {learning_rate:g}: lower it or warm up longer"
        )

    def __reduce__(self) -> tuple[type, tuple[int, int, float, tuple[float, float]]]:
        return type(self), (self.seed, self.epoch, self.learning_rate, self.losses)


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One epoch done, counted from 1; means over `seeds`, which holds several where they train side by side."""

    seeds: tuple[int, ...]
    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Seed records in the order of the seeds asked for.

    `images_per_second` counts training images over the time of whole epochs, evaluation included.
    """

    seeds: tuple[SeedRecord, ...]
    compile_seconds: float
    images_per_second: float
    device: str


def train(
    spec: ArchitectureSpec,
    splits: Splits,
    training: TrainingSection,
    runtime: RuntimeSection,
    seeds: tuple[int, ...],
    on_epoch: Callable[[EpochReport], None],
) -> TrainingResult:
    """Trains `spec` once a seed; the test split stays out of reach of everything below this line.

    Raises `TrainingDiverged` at the end of an epoch whose loss is not finite, and `InputError` where
    network and data do not fit.
    """
    check_fits(spec, splits, training.batch_size)
    # Settings of jax that a user may have changed, and that would change the draws or the types.
    with jax.enable_x64(False), jax.threefry_partitionable(True):
        return _train(spec, splits.train, splits.validation, training, runtime, seeds, on_epoch)


def _train(
    spec: ArchitectureSpec,
    train_split: Split,
    validation: Split,
    training: TrainingSection,
    runtime: RuntimeSection,
    seeds: tuple[int, ...],
    on_epoch: Callable[[EpochReport], None],
) -> TrainingResult:
    steps = count_steps(training, len(train_split))
    start = time.perf_counter()
    data = prepare(train_split, validation, spec.resolution, training.batch_size)
    schedule = schedule_of(training, steps)
    prepare_seconds = time.perf_counter() - start
    forms = choose_forms(runtime.convolutions, jax.default_backend())
    interrupts.check()
    available, compile_seconds = bytes_available(runtime), prepare_seconds
    for groups, plan in _ways(seeds, runtime, training.batch_size):
        shardings = shardings_of(
            runtime.data_parallel, training.batch_size, data.val_labels.shape[1], vector=bool(groups[0].ndim)
        )
        program = compile_program(spec, forms, training, data, schedule, groups[0], plan, shardings)
        compile_seconds += program.compile_seconds
        if program.bytes_needed <= available:
            break
    if plan.micro_batches > 1:
        warnings.warn(
            f"a network does not fit into memory: each of its batches of {training.batch_size} images trains in "
            f"{plan.micro_batches} parts, which normalises by the statistics of "
            f"{training.batch_size // plan.micro_batches} images",
            stacklevel=2,
        )
    if shardings is not None:
        data = jax.device_put(data, shardings.data)
    records: list[SeedRecord] = []
    for group in groups:
        records += _run_seeds(program, data, schedule, group, training, on_epoch)
    images = steps.total * training.batch_size * len(records)
    return TrainingResult(
        seeds=tuple(records),
        compile_seconds=compile_seconds,
        images_per_second=images / math.fsum(record.train_seconds for record in records),
        device=jax.devices()[0].device_kind,
    )


def _ways(
    seeds: tuple[int, ...], runtime: RuntimeSection, batch_size: int
) -> Iterator[tuple[tuple[UInt32[np.ndarray, "*s"], ...], MemoryPlan]]:
    """Seeds in groups, and the plan of a step: from the plainest on, each needs less memory than the one before."""
    groups = _groups(seeds, runtime)
    if groups[0].ndim:
        yield groups, PLAIN
    alone = tuple(np.array(seed, np.uint32) for seed in seeds)
    for plan in memory_plans(batch_size):
        yield alone, plan


def _groups(seeds: tuple[int, ...], runtime: RuntimeSection) -> tuple[UInt32[np.ndarray, "*s"], ...]:
    """Seeds as they run: scalars one after the other, or one vector side by side."""
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**32:
        raise InputError(f"`seeds` must be whole numbers from 0 to 2³² − 1, at least one, but got {seeds}")
    together = runtime.seeds_together
    if together == "auto":
        together = jax.default_backend() != "cpu"
    if together and len(seeds) > 1:
        return (np.array(seeds, np.uint32),)
    return tuple(np.array(seed, np.uint32) for seed in seeds)


def _run_seeds(
    program: Program,
    data: EpochData,
    schedule: Schedule,
    group: UInt32[np.ndarray, "*s"],
    training: TrainingSection,
    on_epoch: Callable[[EpochReport], None],
) -> list[SeedRecord]:
    seeds = tuple(np.atleast_1d(group).tolist())
    start = time.perf_counter()
    state = program.init(group)
    curves: list[np.ndarray] = []  # an epoch each: (3, seeds)
    for epoch in range(training.epochs):
        draws = draws_of_epoch(group, epoch, images=len(data.labels), batch_size=training.batch_size)
        state, train_loss = program.epoch(state, data, draws, schedule)
        result = program.evaluate(state, data)
        values = np.stack([np.atleast_1d(value) for value in _fetch(train_loss, result.loss, result.accuracy)])
        finite = np.isfinite(values[:2]).all(0)
        if not finite.all():
            worst = int(finite.argmin())
            losses = (float(values[0, worst]), float(values[1, worst]))
            raise TrainingDiverged(seeds[worst], epoch + 1, training.learning_rate, losses)
        curves.append(values)
        on_epoch(EpochReport(seeds, epoch + 1, training.epochs, *values.mean(1).tolist()))
    seconds = (time.perf_counter() - start) / len(seeds)
    table = np.stack(curves, axis=-1)  # (3, seeds, epochs)
    return [_record(seed, table[:, index], seconds) for index, seed in enumerate(seeds)]


def _record(seed: int, curves: np.ndarray, seconds: float) -> SeedRecord:
    train_loss, val_loss, val_accuracy = (tuple(curve.tolist()) for curve in curves)
    return SeedRecord(seed, train_loss, val_loss, val_accuracy, seconds)


def _fetch(*values: jax.Array) -> tuple[np.ndarray, ...]:
    """The values on the host. Waits in Python, where an interrupt gets through at once, not inside the runtime."""
    interrupts.check()
    while not all(value.is_ready() for value in values):  # type: ignore[attr-defined]  # a jax.Array's
        time.sleep(_POLL_SECONDS)
        interrupts.check()
    return tuple(np.asarray(value) for value in jax.device_get(values))
