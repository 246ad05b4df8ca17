"""The training of one network for its seeds: epoch after epoch, reported, watched for divergence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import UInt32

from scalesearch.data.feed import EpochData
from scalesearch.data.splits import Splits
from scalesearch.results.records import SeedRecord
from scalesearch.runtime import interrupts
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import RuntimeSection, TrainingSection
from scalesearch.training.compile import Program
from scalesearch.training.draws import EpochDraws, draws_of_epoch
from scalesearch.training.memory import is_exhausted
from scalesearch.training.prepare import Prepared, prepare_again, prepare_training, settings_of_jax
from scalesearch.training.schedule import Schedule

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
    """One epoch done, counted from 1; means over `seeds`, which holds several where they train side by side.

    `share` is what the epoch is of the whole training for all seeds.
    """

    seeds: tuple[int, ...]
    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    share: float


OnEpoch = Callable[[EpochReport], bool | None]
"""Is told of every epoch; True stops the training there."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Seed records in the order of the seeds asked for; of those begun, where `stopped` says that not all was trained.

    `images_per_second` counts training images over the time of whole epochs, evaluation included.
    """

    seeds: tuple[SeedRecord, ...]
    stopped: bool
    compile_seconds: float
    images_per_second: float
    device: str


def train(
    spec: ArchitectureSpec,
    splits: Splits,
    training: TrainingSection,
    runtime: RuntimeSection,
    seeds: tuple[int, ...],
    on_epoch: OnEpoch,
    prepared: Prepared | None = None,
) -> TrainingResult:
    """Trains `spec` once a seed; the test split stays out of reach of everything below this line.

    Where `on_epoch` answers True the training stops, that of later seeds too; the schedule is the whole one all along.
    `prepared` is what `prepare_training` of the same arguments has made; without it that is done here. A network whose
    memory turns out not to be there, in its first epoch, trains in the next way that needs less and computes the same.
    Raises `TrainingDiverged` at the end of an epoch whose loss is not finite, and `InputError` where network and data
    do not fit.
    """
    made = prepared or prepare_training(spec, splits, training, runtime, seeds)
    begun = False

    def after_epoch(report: EpochReport) -> bool | None:
        nonlocal begun
        begun = True
        return on_epoch(report)

    while True:
        try:
            return _train(made, training, seeds, after_epoch)
        except jax.errors.JaxRuntimeError as error:
            if begun or not is_exhausted(error):
                raise
            refused = error.with_traceback(None)  # whose frames hold what was on the device
        less = prepare_again(made, spec, training, runtime, seeds)
        if less is None:
            raise refused
        made = less


def _train(made: Prepared, training: TrainingSection, seeds: tuple[int, ...], on_epoch: OnEpoch) -> TrainingResult:
    records: list[SeedRecord] = []
    with settings_of_jax():
        for group in made.way.groups:
            own, stopped = _run_seeds(made.program, made.data, made.schedule, group, training, len(seeds), on_epoch)
            records += own
            if stopped:
                break
    images = made.images_per_epoch * sum(len(record.train_loss) for record in records)
    return TrainingResult(
        seeds=tuple(records),
        stopped=stopped,
        compile_seconds=made.seconds,
        images_per_second=images / math.fsum(record.train_seconds for record in records),
        device=jax.devices()[0].device_kind,
    )


def _run_seeds(
    program: Program,
    data: EpochData,
    schedule: Schedule,
    group: UInt32[np.ndarray, "*s"],
    training: TrainingSection,
    trained: int,
    on_epoch: OnEpoch,
) -> tuple[list[SeedRecord], bool]:
    """The records of a group, and whether `on_epoch` stopped it."""
    seeds = tuple(np.atleast_1d(group).tolist())
    start = time.perf_counter()
    state = program.init(group)
    curves: list[np.ndarray] = []  # an epoch each: (3, seeds)

    def drawn(epoch: int) -> EpochDraws:
        return draws_of_epoch(group, epoch, images=len(data.labels), batch_size=training.batch_size)

    draws = drawn(0)
    for epoch in range(training.epochs):
        state, train_loss = program.epoch(state, data, draws, schedule)
        result = program.evaluate(state, data)
        if epoch + 1 < training.epochs:
            draws = drawn(epoch + 1)  # while the device computes
        values = np.stack([np.atleast_1d(value) for value in _fetch(train_loss, result.loss, result.accuracy)])
        finite = np.isfinite(values[:2]).all(0)
        if not finite.all():
            worst = int(finite.argmin())
            losses = (float(values[0, worst]), float(values[1, worst]))
            raise TrainingDiverged(seeds[worst], epoch + 1, training.learning_rate, losses)
        curves.append(values)
        share = len(seeds) / trained / training.epochs
        means = values.mean(1).tolist()
        stopped = bool(on_epoch(EpochReport(seeds, epoch + 1, training.epochs, means[0], means[1], means[2], share)))
        if stopped:
            break
    seconds = (time.perf_counter() - start) / len(seeds)
    table = np.stack(curves, axis=-1)  # (3, seeds, epochs)
    return [_record(seed, table[:, index], seconds) for index, seed in enumerate(seeds)], stopped


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
