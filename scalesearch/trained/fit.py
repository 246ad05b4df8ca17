"""Trains one network, in the process that imports jax: goes on from the last checkpoint, and writes the model's folder.

The order of writing makes every moment a safe one to be killed in: the weights of a new best epoch, then the
checkpoint that knows of it, then the curves. Whatever a training that goes on finds too new, it writes again.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scalesearch.data.cache import OnDone
from scalesearch.data.feed import standardised_by
from scalesearch.data.splits import Splits
from scalesearch.errors import InputError
from scalesearch.models.counting import check_own
from scalesearch.runtime import interrupts
from scalesearch.runtime.cache import folder_in_use
from scalesearch.runtime.files import remove_unfinished, write_text
from scalesearch.runtime.program_cache import use_program_cache
from scalesearch.scaling.cost.count import complexity
from scalesearch.trained.card import CARD_FILE, ModelCard, NamedArrays, Preprocessing, card_text
from scalesearch.trained.checkpoint import Checkpoint, Checkpoints
from scalesearch.trained.curves import CURVES_FILE, EpochRow, TensorBoard, best_of, write_curves
from scalesearch.trained.events import EpochTrained, OnEvent, PartTrained, TrainingStarted
from scalesearch.trained.job import JOB_FILE, Job, write_job
from scalesearch.trained.names import StateNames
from scalesearch.trained.weights import WEIGHTS_FILE, write_weights
from scalesearch.training.compile import compile_program
from scalesearch.training.epochs import PART_SECONDS, Place, TrainingDiverged, train_epochs
from scalesearch.training.loop import run_in_memory
from scalesearch.training.memory import bytes_available, release
from scalesearch.training.prepare import (
    Prepared,
    check_runtime,
    prepare_smaller,
    prepare_training,
    settings_of_jax,
)
from scalesearch.training.schedule import learning_rate
from scalesearch.training.state import TrainState, Weights, evaluated_weights

CHECKPOINT_SECONDS = 600.0
"""Within an epoch, a checkpoint is written that long after the last one."""

FILES = (CARD_FILE, CURVES_FILE, JOB_FILE, WEIGHTS_FILE)
"""What is written beside checkpoints and events."""

_PACKAGES = ("scalesearch", "jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")


def fit(
    job: Job,
    splits: Splits,
    folder: Path,
    on_event: OnEvent,
    on_images: OnDone = lambda resolution, done, total: None,
    *,
    initial: Callable[[NamedArrays], NamedArrays] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    part_seconds: float = PART_SECONDS,
) -> None:
    """Trains the network of `job` to the end of its recipe and writes its folder.

    Args:
        job: what to train.
        splits: its data; the test split is never read.
        folder: the model's folder, which may hold a training of the same job that is not finished.
        on_event: called with each event.
        on_images: called while images are decoded that nobody has prepared.
        initial: makes, of the initial variables by name, those that the training begins with (a transfer).
        checkpoint_seconds: writes a checkpoint within an epoch that long after the last one.
        part_seconds: how long a part of an epoch takes, about; between parts an interrupt is seen.

    Raises:
        InputError: data, network and machine do not fit, a checkpoint is not of this training, or it diverged.
    """
    check_runtime(job.training, job.runtime)
    check_own(job.spec)
    _check_memory(job)
    remove_unfinished(folder)  # by a worker before this one
    if (programs := folder_in_use()) is not None:
        use_program_cache(programs)
    compiler = partial(compile_program, parts=True)
    network = (job.spec, splits, job.training, job.runtime, (job.training.seed,))
    prepared = prepare_training(*network, compiler=compiler, on_images=on_images, must_fit=True)
    if (origin := job.origin) is not None and origin.mean is not None and origin.std is not None:
        prepared = replace(prepared, data=standardised_by(prepared.data, origin.mean, origin.std))
    release()
    write_job(folder, job)

    def run(prepared: Prepared, fits: Callable[[], None]) -> None:
        with settings_of_jax(), Checkpoints(folder) as checkpoints:
            fit = _Fit(job, splits, folder, prepared, checkpoints, on_event, checkpoint_seconds)
            fit.train(initial, part_seconds, fits)

    try:
        run_in_memory(
            run,
            prepared,
            lambda prepared: prepare_smaller(prepared, job.spec, job.training, job.runtime, compiler=compiler),
        )
    except TrainingDiverged as error:
        raise InputError(f"the training diverged: {error}") from None


def _check_memory(job: Job) -> None:
    """Raises `InputError`, before anything of that size is made, if a training's state alone does not fit."""
    training = job.training
    copies = 2 + (1 if training.optimizer == "sgd" else 2) + (training.ema_decay > 0)  # with the gradient
    needed, available = 4 * copies * complexity(job.spec).params, bytes_available(job.runtime)
    if needed > available:
        raise InputError(
            f"{job.name}: parameters, gradient and optimiser take {needed / 2**30:,.1f} GiB, but only "
            f"{available / 2**30:,.1f} GiB are available: take a smaller φ"
        )


class _Fit:
    """One training and its folder."""

    def __init__(
        self,
        job: Job,
        splits: Splits,
        folder: Path,
        prepared: Prepared,
        checkpoints: Checkpoints,
        on_event: OnEvent,
        checkpoint_seconds: float,
    ) -> None:
        self._job, self._splits, self._folder, self._prepared = job, splits, folder, prepared
        self._checkpoints, self._on_event, self._checkpoint_seconds = checkpoints, on_event, checkpoint_seconds
        self._names = StateNames(job.spec)
        self._batch = job.training.batch_size
        self._steps = prepared.images_per_epoch // self._batch
        self._rows: list[EpochRow] = []
        self._started = time.perf_counter()  # of the epoch, as if it had begun in this process
        self._evaluation_started = self._saved = self._started

    def train(
        self, initial: Callable[[NamedArrays], NamedArrays] | None, part_seconds: float, fits: Callable[[], None]
    ) -> None:
        """Trains from where the folder's training stands to the end."""
        job, place = self._job, self._begin(initial)
        self._on_event(TrainingStarted(self._done(place)))
        board = TensorBoard(self._folder, self._rows)
        latest = place

        def on_part(place: Place) -> None:
            nonlocal latest
            fits()
            latest, now = place, time.perf_counter()
            trained = place.step * self._batch
            self._on_event(PartTrained(self._done(place), trained / (now - self._started)))
            self._evaluation_started = now
            if interrupts.is_requested() or now - self._saved >= self._checkpoint_seconds:
                self._save(place)
            interrupts.check()

        group = np.array(job.training.seed, np.uint32)
        try:
            for ended, values in train_epochs(self._prepared, group, job.training, place, on_part, part_seconds):
                self._end_epoch(ended, values[:, 0].tolist(), board)
        except KeyboardInterrupt:
            if latest.step and not latest.state.step.is_deleted():  # in the epoch's evaluation
                self._save(latest)
            raise
        finally:
            board.close()
        self._checkpoints.wait()
        self._write_card(finished=True)

    def _begin(self, initial: Callable[[NamedArrays], NamedArrays] | None) -> Place:
        """Where the training stands; the files that follow from it are written again."""
        state = self._prepared.program.init(np.uint32(self._job.training.seed))
        last = self._checkpoints.last()
        if last is None:
            if initial is not None:
                named = initial(self._names.weights(state.weights))
                weights = self._names.packed(named, jax.device_get(state.weights), "the initial weights")
                state = _on_device(TrainState(state.step, weights, state.optimizer, state.average))
            return Place(0, state)

        place = self._place(last, state)
        self._rows = [EpochRow(*row) for row in last.facts["rows"]]
        self._started -= last.facts["seconds"]
        best = best_of(self._rows)
        if best is not None:
            number = self._number(best.epoch)
            checkpoint = last if last.number == number else self._checkpoints.at(number)
            if checkpoint is not None:  # else the files are of the best epoch already, or of one that comes
                self._write_weights(evaluated_weights(self._place(checkpoint, state).state))
        write_curves(self._folder, self._rows)
        return place

    def _place(self, checkpoint: Checkpoint, like: TrainState) -> Place:
        """Where `checkpoint` stands, on the device. Raises `InputError` if it is not of this training."""
        arrays = dict(checkpoint.arrays)
        losses, mean = arrays.pop("losses", None), arrays.pop("mean", None)
        state = _on_device(self._names.state(arrays, like, checkpoint.where))
        return Place(checkpoint.facts["epoch"], state, checkpoint.facts["step"], losses, mean)

    def _end_epoch(self, place: Place, values: list[float], board: TensorBoard) -> None:
        """Writes what an epoch gave. `values`: training loss, then what `Program.evaluate` gives."""
        now = time.perf_counter()
        train_loss, val_loss, accuracy, *balanced = values
        row = EpochRow(
            epoch=place.epoch,
            learning_rate=float(learning_rate(self._prepared.schedule, jnp.int32(place.epoch * self._steps - 1))),
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=accuracy,
            val_balanced_accuracy=balanced[0] if balanced else None,
            images_per_second=self._prepared.images_per_epoch / (self._evaluation_started - self._started),
            seconds=now - self._started,
        )
        self._rows.append(row)
        is_best = best_of(self._rows) is row
        if is_best:
            self._write_weights(evaluated_weights(place.state))
        self._save(place)
        write_curves(self._folder, self._rows)
        board.add(row)
        self._on_event(EpochTrained(row, is_best))
        self._started = time.perf_counter()

    def _save(self, place: Place) -> None:
        """Writes the checkpoint of `place`, in the background."""
        arrays = self._names.named(place.state)
        within: Mapping[str, Any] = {} if place.losses is None else {"losses": place.losses, "mean": place.mean}
        arrays |= {name: np.asarray(value) for name, value in within.items()}
        broken = next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)
        if broken is not None:
            raise InputError(
                f"the training diverged: `{broken}` is not finite; lower `training.learning_rate` or warm up longer"
            )
        seconds = time.perf_counter() - self._started if place.step else 0.0
        facts = {"epoch": place.epoch, "step": place.step, "seconds": seconds, "rows": [*map(astuple, self._rows)]}
        self._checkpoints.save(
            self._number(place.epoch, place.step), arrays, facts, None if place.step else self._rows[-1].rank
        )
        self._saved = time.perf_counter()

    def _write_weights(self, weights: Weights) -> None:
        write_weights(self._folder, self._names.weights(weights))
        self._write_card(finished=False)

    def _write_card(self, *, finished: bool) -> None:
        job, data = self._job, self._prepared.data
        best = best_of(self._rows)
        assert best is not None
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
        card = ModelCard(
            name=job.name,
            spec=job.spec,
            preprocessing=Preprocessing(
                resolution=job.training.evaluation_resolution or job.spec.resolution,
                fit=job.data.fit,
                mean=tuple(np.asarray(data.mean).tolist()),
                std=tuple(np.asarray(data.std).tolist()),
            ),
            classes=job.data.classes or self._splits.classes,
            rule=job.rule,
            phi=job.phi,
            data={**job.data.model_dump(mode="json"), "digest": job.digest},
            training=job.training.model_dump(mode="json"),
            provenance={
                **({} if job.origin is None else {"origin": job.origin.to_json()}),
                "finished": finished,
                "epoch": best.epoch,
                "val_loss": best.val_loss,
                "val_accuracy": best.val_accuracy,
                "val_balanced_accuracy": best.val_balanced_accuracy,
                "seconds": sum(row.seconds for row in self._rows),
                "device": jax.devices()[0].device_kind,
                "versions": {"python": platform.python_version(), **versions},
                "date": date.today().isoformat(),
            },
        )
        write_text(self._folder / CARD_FILE, card_text(card))

    def _number(self, epoch: int, step: int = 0) -> int:
        """That of a checkpoint: steps so far, and each epoch's evaluation counted as one."""
        return epoch * (self._steps + 1) + step

    def _done(self, place: Place) -> float:
        return place.epoch + place.step / self._steps


def _on_device(state: TrainState) -> TrainState:
    """A copy on the device: a training consumes its state, which must not be numpy's memory."""
    copied: TrainState = jax.tree.map(lambda each: jnp.array(each, copy=True), state)
    return copied
