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

if TYPE_CHECKING:
    from scalesearch.data.splits import Splits
    from scalesearch.results.records import TrialRecord
    from scalesearch.search.events import Preparing
    from scalesearch.study.sections import Study
    from scalesearch.training.loop import EpochReport

MODULE = "scalesearch.search.worker"


def train_study(
    storage: str,
    study_name: str,
    reference: str | None = None,
    source: str | None = None,
    cores: Sequence[int] = (),
    seconds: float | None = None,
    folders: Sequence[str] = (),
) -> None:
    """Trains trials of the stored study until none is left, and reports each epoch, trial and note.

    Args:
        storage: SQLAlchemy URL of the storage that holds the study.
        study_name: the study's name there.
        reference: the name of the stored study that trains the baseline, if this worker is to do that first.
        source: where this machine holds the data; None for where the study says.
        cores: processor cores to keep to; empty for all.
        seconds: start no trial that would end later than this many seconds from now; None for no limit.
        folders: where modules of the user's own are found, before the current folder.
    """
    deadline = time.monotonic() + (math.inf if seconds is None else seconds)
    if cores:
        use_cores(cores)  # before jax starts its threads
    allocator.tune()

    # The study and its data.
    from scalesearch.data.splits import check_fits
    from scalesearch.results.records import record_to_json
    from scalesearch.search.plan.design import make_plan
    from scalesearch.search.plan.reference import reference_plan
    from scalesearch.search.queue import optuna_study as queue
    from scalesearch.search.queue.storage import open_storage
    from scalesearch.search.queue.work import work

    look_in(*map(Path, folders), Path.cwd())
    opened = open_storage(storage)
    optuna_study = queue.join_study(opened, study_name)
    study = queue.study_of(optuna_study)
    queue.check_code(optuna_study, study)
    if source is not None:
        study = study.model_copy(update={"data": study.data.model_copy(update={"source": source})})
    evaluates = queue.evaluates_of(optuna_study)
    splits = _splits(study, queue.data_digest(optuna_study), evaluates)
    plan = make_plan(study) if evaluates == "validation" else queue.queued_plan(optuna_study, study)
    check_fits(plan.baseline.spec, splits, study.training.batch_size)
    searches = [(optuna_study, study, plan, True)]
    if reference is not None:
        stored = queue.join_study(opened, reference)
        own = queue.study_of(stored)
        # First, unless a worker that died still holds it: the candidates need not wait until that is known.
        searches = [(stored, own, reference_plan(own), wait) for wait in (False, True)]
        searches.insert(1, (optuna_study, study, plan, True))

    # What trains: imports jax.
    from scalesearch.runtime.jax_settings import check_jax
    from scalesearch.search.evaluation import TrainingEvaluation
    from scalesearch.search.events import PreparationReports

    done = 0.0

    def on_epoch(epoch: EpochReport) -> None:
        nonlocal done
        done += epoch.share
        workers.report({"epoch": done})

    def on_trial(number: int, record: TrialRecord) -> None:
        nonlocal done
        done = 0.0
        workers.report({"trial": number, "record": record_to_json(record)})

    def on_images(event: Preparing) -> None:
        workers.report({"preparing": [event.resolution, event.done, event.total]})

    check_jax()
    evaluate = TrainingEvaluation(study, splits, on_epoch, PreparationReports(on_images))
    for stored, own, own_plan, wait in searches:
        work(
            stored,
            own,
            own_plan,
            evaluate,
            deadline=deadline,
            expect=evaluate.expect,
            on_trial=on_trial,
            on_wait=lambda running: workers.report({"waiting": running}),
            wait=wait,
        )


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
