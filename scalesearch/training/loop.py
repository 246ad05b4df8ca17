"""The training of one network for its seeds: epoch after epoch, with a report and a check for divergence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import UInt32

from scalesearch.data.splits import Splits
from scalesearch.results.records import SeedRecord
from scalesearch.runtime import interrupts
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import RuntimeSection
from scalesearch.study.training import TrainingSection
from scalesearch.training.compile import compile_program
from scalesearch.training.draws import EpochDraws, draws_of_epoch
from scalesearch.training.memory import is_exhausted
from scalesearch.training.prepare import (
    Compiler,
    Prepared,
    prepare_smaller,
    prepare_training,
    settings_of_jax,
)

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
    """The end of an epoch, counted from 1; means over `seeds`, which are several if they train side by side.

    `share` is the epoch's fraction of the whole training for all seeds.
    """

    seeds: tuple[int, ...]
    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    share: float


OnEpoch = Callable[[EpochReport], bool | None]
"""Called after every epoch; True stops the training there."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Seed records in the order of the seeds asked for; only of seeds begun, if the training was `stopped`.

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
    *,
    compiler: Compiler = compile_program,
) -> TrainingResult:
    """Trains `spec` once for each seed, without the test split.

    A network that runs out of memory in its first epoch trains by the next execution plan, which needs less and
    computes the same.

    Args:
        spec: the network.
        splits: the data; their test split is never read.
        training: the schedule.
        runtime: how the work is carried out.
        seeds: each begins from different weights and sees different draws.
        on_epoch: called after every epoch. If it returns True the training stops, including later seeds; the
            learning rate follows the whole schedule all the same.
        prepared: what `prepare_training` of the same arguments returned; None to do that here.
        compiler: compiles the network.

    Raises:
        TrainingDiverged: at the end of an epoch, if its loss is not finite.
        InputError: network and data do not fit.
    """
    if prepared is None:
        prepared = prepare_training(spec, splits, training, runtime, seeds, compiler=compiler)
    first_epoch_done = False

    def after_epoch(report: EpochReport) -> bool | None:
        nonlocal first_epoch_done
        first_epoch_done = True
        return on_epoch(report)

    while True:
        try:
            return _train_groups(prepared, training, seeds, after_epoch)
        except jax.errors.JaxRuntimeError as error:
            if first_epoch_done or not is_exhausted(error):
                raise
            refused = error.with_traceback(None)  # whose frames hold arrays on the device
        smaller = prepare_smaller(prepared, spec, training, runtime, compiler=compiler)
        if smaller is None:
            raise refused
        prepared = smaller


def _train_groups(
    prepared: Prepared, training: TrainingSection, seeds: tuple[int, ...], on_epoch: OnEpoch
) -> TrainingResult:
    records: list[SeedRecord] = []
    with settings_of_jax():
        for group in prepared.groups:
            share = np.size(group) / len(seeds) / training.epochs
            more, stopped = _train_group(prepared, group, training, share, on_epoch)
            records += more
            if stopped:
                break
    images = prepared.images_per_epoch * sum(len(record.train_loss) for record in records)
    return TrainingResult(
        seeds=tuple(records),
        stopped=stopped,
        compile_seconds=prepared.seconds,
        images_per_second=images / math.fsum(record.train_seconds for record in records),
        device=jax.devices()[0].device_kind,
    )


def _train_group(
    prepared: Prepared, group: UInt32[np.ndarray, "*s"], training: TrainingSection, share: float, on_epoch: OnEpoch
) -> tuple[list[SeedRecord], bool]:
    """The records of one seed, or of several side by side, and whether `on_epoch` stopped them."""
    program, data, schedule = prepared.program, prepared.data, prepared.schedule
    seeds = tuple(np.atleast_1d(group).tolist())
    start = time.perf_counter()
    state = program.init(group)
    curves: list[np.ndarray] = []  # for each epoch (3 or 4, seeds): training loss, then what `evaluate` gives

    def draw(epoch: int) -> EpochDraws:
        return draws_of_epoch(group, epoch, training, images=len(data.labels))

    draws = draw(0)
    for epoch in range(training.epochs):
        # The device computes the epoch while the host draws the next one.
        state, train_loss = program.epoch(state, data, draws, schedule)
        judged = program.evaluate(state, data)
        if epoch + 1 < training.epochs:
            draws = draw(epoch + 1)
        values = np.stack([np.atleast_1d(value) for value in _fetch(train_loss, *judged)])

        # A diverged seed ends the training of all.
        finite = np.isfinite(values[:2]).all(0)
        if not finite.all():
            worst = int(finite.argmin())
            losses = (float(values[0, worst]), float(values[1, worst]))
            raise TrainingDiverged(seeds[worst], epoch + 1, training.learning_rate, losses)

        curves.append(values)
        means = values.mean(1).tolist()
        stopped = bool(on_epoch(EpochReport(seeds, epoch + 1, training.epochs, means[0], means[1], means[2], share)))
        if stopped:
            break
    seconds = (time.perf_counter() - start) / len(seeds)
    table = np.stack(curves, axis=-1)  # (3 or 4, seeds, epochs)
    return [_record(seed, table[:, index], seconds) for index, seed in enumerate(seeds)], stopped


def _record(seed: int, curves: np.ndarray, seconds: float) -> SeedRecord:
    train_loss, val_loss, val_accuracy, *balanced = (tuple(curve.tolist()) for curve in curves)
    return SeedRecord(seed, train_loss, val_loss, val_accuracy, seconds, *balanced)


def _fetch(*values: jax.Array) -> tuple[np.ndarray, ...]:
    """The values on the host. Waits in Python, not inside the runtime, so that an interrupt gets through at once."""
    interrupts.check()
    while not all(value.is_ready() for value in values):  # type: ignore[attr-defined]  # a jax.Array's
        time.sleep(_POLL_SECONDS)
        interrupts.check()
    return tuple(np.asarray(value) for value in jax.device_get(values))
