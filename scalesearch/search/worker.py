"""The worker process: joins a stored study, trains its trials, and reports to the process that watches it.

`python -m scalesearch.search.worker` is started by `search.engine`, which sends the arguments of `train_study` as JSON.
Only this process imports jax, so its memory ends with it, and a crash of the runtime costs one trial.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scalesearch.errors import StudyMismatch
from scalesearch.runtime import allocator, workers
from scalesearch.runtime.cores import use_cores
from scalesearch.runtime.modules import look_in
from scalesearch.runtime.text import plural

if TYPE_CHECKING:
    from scalesearch.data.splits import Splits
    from scalesearch.results.records import TrialRecord
    from scalesearch.search.evaluation import TrainingEvaluation
    from scalesearch.search.events import Preparing
    from scalesearch.study.sections import Study
    from scalesearch.training.loop import EpochReport

MODULE = "scalesearch.search.worker"


def train_study(
    storage: str,
    study_names: Sequence[str],
    reference: str | None = None,
    source: str | None = None,
    cores: Sequence[int] = (),
    seconds: float | None = None,
    patience: float | None = None,
    folders: Sequence[str] = (),
) -> None:
    """Trains trials of the stored studies until none is left, and reports each epoch, trial and note.

    Args:
        storage: SQLAlchemy URL of the storage that holds the studies.
        study_names: their names there, in the order in which they are trained; they have the same data.
        reference: the name of the stored study that trains the baseline, if this worker is to do that first.
        source: where this machine holds the data; None for where the study says.
        cores: processor cores to keep to; empty for all.
        seconds: start no trial that would end later than this many seconds from now; None for no limit.
        patience: seconds to wait for a storage that is away; None for the usual.
        folders: where modules of the user's own are found, before the current folder.
    """
    deadline = time.monotonic() + (math.inf if seconds is None else seconds)
    if cores:
        use_cores(cores)  # before jax starts its threads
    allocator.tune()

    # The studies and their data.
    from scalesearch.data.splits import check_fits
    from scalesearch.search.plan.reference import reference_plan
    from scalesearch.search.queue import optuna_study as queue
    from scalesearch.search.queue.patience import PATIENCE_SECONDS, waiting
    from scalesearch.search.queue.planned import plan_for
    from scalesearch.search.queue.storage import open_storage
    from scalesearch.search.queue.work import work

    look_in(*map(Path, folders), Path.cwd())
    with waiting(PATIENCE_SECONDS if patience is None else patience):
        opened = open_storage(storage, create=False)
        searches = []
        splits: Splits | None = None
        for name in filter(None, (reference, *study_names)):
            optuna_study = queue.join_study(opened, name)
            study = queue.study_of(optuna_study)
            queue.check_code(optuna_study, study)
            if source is not None:
                study = study.model_copy(update={"data": study.data.model_copy(update={"source": source})})
            evaluates = queue.evaluates_of(optuna_study)
            splits = splits or _splits(study, queue.data_digest(optuna_study), evaluates)
            plan = reference_plan(study) if name == reference else plan_for(optuna_study, study)
            check_fits(plan.baseline.spec, splits, study.training.batch_size)
            searches.append((optuna_study, study, plan, name != reference))
        if reference is not None:
            # First, unless a worker that died still holds it: the candidates need not wait until that is known.
            searches.append((*searches[0][:3], True))

        assert splits is not None
        evaluation = _Evaluation(splits)
        for optuna_study, study, plan, wait in searches:
            evaluate = evaluation.of(study)
            work(
                optuna_study,
                study,
                plan,
                evaluate,
                deadline=deadline,
                expect=evaluate.expect,
                on_trial=evaluation.on_trial,
                on_wait=lambda running: workers.report({"waiting": running}),
                wait=wait,
                device=evaluation.device,
            )


class _Evaluation:
    """What trains, and reports how far it is."""

    def __init__(self, splits: Splits) -> None:
        from scalesearch.runtime.jax_settings import check_jax

        check_jax()
        self._splits, self._done = splits, 0.0
        self._training: object = None  # the schedule of the latest evaluation
        self._evaluate: TrainingEvaluation

    @property
    def device(self) -> str:
        """What this process trains on."""
        import jax

        from scalesearch.runtime.cores import usable_cores

        devices = jax.local_devices()
        if devices[0].platform == "cpu":
            return f"cpu, {plural(len(usable_cores()), 'core')}"
        return f"{len(devices)} × {devices[0].device_kind}" if len(devices) > 1 else str(devices[0].device_kind)

    def of(self, study: Study) -> TrainingEvaluation:
        """What evaluates the trials of `study`; the same as before if it trains in the same way."""
        from scalesearch.search.evaluation import TrainingEvaluation
        from scalesearch.search.events import PreparationReports

        if study.training != self._training:
            self._training = study.training
            on_images = PreparationReports(self._on_images)
            self._evaluate = TrainingEvaluation(study, self._splits, self._on_epoch, on_images)
        return self._evaluate

    def on_trial(self, number: int, record: TrialRecord) -> None:
        """Reports the end of a trial."""
        from scalesearch.results.records import record_to_json

        self._done = 0.0
        workers.report({"trial": number, "record": record_to_json(record)})

    def _on_epoch(self, epoch: EpochReport) -> None:
        self._done += epoch.share
        workers.report({"epoch": self._done})

    @staticmethod
    def _on_images(event: Preparing) -> None:
        workers.report({"preparing": [event.resolution, event.done, event.total]})


def _splits(study: Study, digest: str, evaluates: str) -> Splits:
    """The data of `study`; raises `StudyMismatch` if they are not those of `digest`."""
    from scalesearch.data.splits import load_splits

    splits = load_splits(study.data)
    if (splits.test_digest if evaluates == "test" else splits.digest) != digest:
        raise StudyMismatch(f"the data of {study.data.source} are not those that the study was made with")
    # Only `validate` reads the test split, in place of the validation split; its trainings choose nothing.
    return replace(splits, validation=splits.test) if evaluates == "test" else splits


if __name__ == "__main__":
    code = workers.carry_out(train_study)
    sys.stdout.flush()
    os._exit(code)  # jax takes a second or more to shut down, and its threads may still compile
