"""Trains one network of a rule's family: in a worker process, from a rule to a model's folder."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalesearch.baselines.protocol import own_code
from scalesearch.data.cache import ImageCache, recipe_of
from scalesearch.data.checks import check_signal
from scalesearch.data.images import pictures_in
from scalesearch.errors import InputError
from scalesearch.runtime import interrupts
from scalesearch.runtime.folders import locked_folder
from scalesearch.runtime.modules import files_of, folders_of
from scalesearch.runtime.workers import Workers
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.rule import ScalingRule
from scalesearch.search.events import PreparationReports, Preparing
from scalesearch.search.plan.timing import training_seconds
from scalesearch.search.supervision import error_of, start_again
from scalesearch.study.sections import Study
from scalesearch.trained import worker
from scalesearch.trained.card import CARD_FILE
from scalesearch.trained.curves import CURVES_FILE, EpochRow
from scalesearch.trained.events import EpochTrained, OnEvent, PartTrained, TrainingPlanned, TrainingStarted
from scalesearch.trained.job import Job, check_same
from scalesearch.trained.plan import plan_job
from scalesearch.trained.result import TrainedModel, read_trained
from scalesearch.trained.weights import WEIGHTS_FILE

if TYPE_CHECKING:
    from scalesearch.results.load import Run

STOPPING = "scalesearch: stopping; what is trained is kept in a checkpoint"
_log = logging.getLogger(__name__)


def train(
    rule: ScalingRule | Run | str | Path | None = None,
    phi: float | None = None,
    *,
    origin: str | os.PathLike[str] | None = None,
    data: str | None = None,
    study: Study | str | Path | None = None,
    out: str | Path | None = None,
    resolution: int | None = None,
    max_resolution: int | None = None,
    events: OnEvent | None = None,
    **recipe: Any,
) -> TrainedModel:
    """Trains the network φ of a rule's family, or `origin` on other images, and writes its folder.

    Called again, it resumes.

    Args:
        rule: a rule, its coefficients.json, or a run or its folder, whose study then gives data and recipe. With
            `origin` it may be None, or must have the same network.
        phi: which member of the family.
        origin: the network whose weights the training begins with, in a transfer: the folder of a trained model, or
            weights of another library, as `timm:FILE.safetensors`. Its classifier is kept if the classes have the same
            names. Images are standardised as it is used to.
        data: the source of the images, if it is another than the study's.
        study: the study, or its file, that gives data and recipe; the run's if None.
        out: the model's folder; `runs/NAME-phiN` if None, or in a transfer `runs/ORIGIN-to-DATA`.
        resolution: of the images in a transfer, if it is another than that of the network.
        max_resolution: the largest resolution that the network may have.
        events: called with each event (`trained.events`); None draws progress in a terminal or a notebook.
        recipe: values of `[train]` that replace the study's: `epochs=100`, `seed=1`; for a transfer also
            `frozen=True` (the classifier trains alone), `layer_rate=0.8`.

    Returns:
        The folder with what is in it: the network, its curves and its best epoch.

    Raises:
        InputError: rule, data or recipe cannot be used, a checkpoint is not of this training, or it diverged.
        StudyMismatch: the folder holds the training of another network, recipe or data.
        WorkerFailed: the worker fails again and again.

    Example:
        >>> import scalesearch
        >>> model = scalesearch.train("runs/mnist_sample", phi=2)  # doctest: +SKIP
        >>> model.best.val_accuracy  # doctest: +SKIP
        0.985
    """
    job, splits, name = plan_job(rule, phi, origin, study, data, resolution, max_resolution, recipe)
    folder = Path("runs") / name if out is None else Path(out)
    with _drawing(events) as on_event, locked_folder(folder), interrupts.deferred(STOPPING):
        if not check_same(folder, job):
            _check_free(folder)
        elif (trained := _finished(folder)) is not None:
            return trained
        for note in (*splits.notes, *check_signal(splits)):
            warnings.warn(f"{splits.source}: {note}", stacklevel=2)
        counted, sizes = complexity(job.spec), (len(splits.train), len(splits.validation))
        seconds = training_seconds(counted, sum(job.spec.depths), job.training.epochs, *sizes)
        on_event(TrainingPlanned(job.name, job.training.epochs, len(splits.train), seconds))
        judged = job.training.evaluation_resolution or job.spec.resolution
        sides = ((splits.train, job.spec.resolution), (splits.validation, judged))
        recipes = [recipe_of(each, side) for split, side in sides for each in pictures_in(split)]
        prepared = ImageCache().build(recipes, PreparationReports(on_event))  # kept as long as the worker runs
        del splits
        _train(job, folder, on_event)
        del prepared
    return read_trained(folder)


def _check_free(folder: Path) -> None:
    """Raises `InputError` if `folder`, which holds no training, holds files that one would overwrite, or is a run's."""
    for name in ("study.toml", "report.html", CARD_FILE, WEIGHTS_FILE, CURVES_FILE):
        if (folder / name).exists():
            raise InputError(f"{folder} holds {name}, which no `train` has written; choose another --out")


def _finished(folder: Path) -> TrainedModel | None:
    """The model in `folder` if it is trained to the end."""
    with contextlib.suppress(InputError):
        trained = read_trained(folder)
        return trained if trained.finished else None
    return None


def _train(job: Job, folder: Path, on_event: OnEvent) -> None:
    """Trains in a worker process, which is started again if it crashes."""
    instruction: dict[str, Any] = {"job": job.to_json(), "folder": str(folder.absolute())}
    if files := files_of(own_code(job.spec)):
        instruction["folders"] = folders_of(files)
    restarts = 0
    with Workers(worker.MODULE, [instruction]) as running:
        while running.alive:
            for _, message in running.messages(timeout=1.0):
                _pass_on(message, on_event)
            interrupts.check()
            for _, reason in start_again(running, restarts):
                restarts += 1
                on_event(f"{reason}; it is started again and goes on from its last checkpoint")


def _pass_on(message: Mapping[str, Any], on_event: OnEvent) -> None:
    """What the worker reported, as an event, a warning, a log or an error."""
    match message:
        case {"preparing": values}:
            on_event(Preparing(*values))
        case {"started": values}:
            on_event(TrainingStarted(*values))
        case {"part": values}:
            on_event(PartTrained(*values))
        case {"epoch": [row, best]}:
            on_event(EpochTrained(EpochRow(*row), best))
        case {"note": text}:
            warnings.warn(text, stacklevel=2)
        case {"log": text}:
            _log.info("%s", text)
        case {"error": _}:
            raise error_of(message)
        case _:
            pass


@contextlib.contextmanager
def _drawing(events: OnEvent | None) -> Iterator[OnEvent]:
    """The receiver of events: `events`, or progress that is drawn until the context ends."""
    if events is not None:
        yield events
        return
    from scalesearch.report.training import TrainingProgress

    with TrainingProgress() as progress:
        yield progress
