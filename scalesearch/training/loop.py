"""The training of one network for its seeds: epoch after epoch, with a report and a check for divergence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import UInt32

from scalesearch.data.splits import Splits
from scalesearch.results.records import SeedRecord
from scalesearch.runtime.exhaustion import is_exhausted
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import RuntimeSection
from scalesearch.study.training import TrainingSection
from scalesearch.training.compile import compile_program
from scalesearch.training.epochs import train_epochs
from scalesearch.training.prepare import (
    Compiler,
    Prepared,
    prepare_smaller,
    prepare_training,
    settings_of_jax,
)

Result = TypeVar("Result")


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

    def run(prepared: Prepared, fits: Callable[[], None]) -> TrainingResult:
        def after_epoch(report: EpochReport) -> bool | None:
            fits()
            return on_epoch(report)

        return _train_groups(prepared, training, seeds, after_epoch)

    return run_in_memory(
        run, prepared, lambda prepared: prepare_smaller(prepared, spec, training, runtime, compiler=compiler)
    )


def run_in_memory(
    run: Callable[[Prepared, Callable[[], None]], Result],
    prepared: Prepared,
    smaller: Callable[[Prepared], Prepared | None],
) -> Result:
    """The result of `run`; again by the next execution plan, which needs less memory, if it runs out of memory.

    Args:
        run: trains; it calls its second argument as soon as it is known that memory suffices.
        prepared: by the first plan.
        smaller: prepares the next plan; None if there is none.
    """
    proven = False

    def fits() -> None:
        nonlocal proven
        proven = True

    while True:
        try:
            return run(prepared, fits)
        except Exception as error:
            if proven or not is_exhausted(error):
                raise
            refused = error.with_traceback(None)  # whose frames hold arrays on the device
        next_plan = smaller(prepared)
        if next_plan is None:
            raise refused
        prepared = next_plan


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
    seeds = tuple(np.atleast_1d(group).tolist())
    start = time.perf_counter()
    curves: list[np.ndarray] = []
    for place, values in train_epochs(prepared, group, training):
        curves.append(values)
        means = values.mean(1).tolist()
        report = EpochReport(seeds, place.epoch, training.epochs, means[0], means[1], means[2], share)
        stopped = bool(on_epoch(report))
        if stopped:
            break
    seconds = (time.perf_counter() - start) / len(seeds)
    table = np.stack(curves, axis=-1)  # (3 or 4, seeds, epochs)
    return [_record(seed, table[:, index], seconds) for index, seed in enumerate(seeds)], stopped


def _record(seed: int, curves: np.ndarray, seconds: float) -> SeedRecord:
    train_loss, val_loss, val_accuracy, *balanced = (tuple(curve.tolist()) for curve in curves)
    return SeedRecord(seed, train_loss, val_loss, val_accuracy, seconds, *balanced)
