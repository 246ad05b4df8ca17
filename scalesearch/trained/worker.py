"""The worker process of `train`: trains the network, and reports to the process that watches it.

`python -m scalesearch.trained.worker` is started by `trained.engine`, which sends the arguments of `train_job` as JSON.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from scalesearch.errors import StudyMismatch
from scalesearch.export.opened import open_network
from scalesearch.runtime import allocator, interrupts, workers
from scalesearch.runtime.folders import WORKER_LOCK
from scalesearch.runtime.modules import look_in
from scalesearch.runtime.text import first_line
from scalesearch.search.events import Preparing
from scalesearch.trained.card import NamedArrays
from scalesearch.trained.events import EpochTrained, Event, PartTrained, TrainingStarted
from scalesearch.trained.job import Job, Origin, job_of
from scalesearch.trained.leaves import check_names
from scalesearch.trained.transfer import transferred_weights
from scalesearch.trained.weights import digest_of

if TYPE_CHECKING:
    from scalesearch.data.splits import Splits

MODULE = "scalesearch.trained.worker"
_POLL_SECONDS = 0.2


def train_job(
    job: Mapping[str, Any], folder: str, folders: Sequence[str] = (), settings: Mapping[str, Any] | None = None
) -> None:
    """Trains a network and reports each part, epoch and note.

    Args:
        job: what to train, as JSON (`trained.job`).
        folder: the model's folder.
        folders: where modules of the user's own are found, before the current folder.
        settings: further arguments of `trained.fit.fit`.
    """
    allocator.tune()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of what is meant
    from scalesearch.data.splits import check_fits, load_splits

    look_in(*map(Path, folders), Path.cwd())
    parsed = job_of(job)
    splits = load_splits(parsed.data)
    if splits.digest != parsed.digest:
        raise StudyMismatch(f"the data of {parsed.data.source} have changed since the training was started")
    check_fits(parsed.spec, splits, parsed.training.batch_size)

    # What trains: imports jax.
    from scalesearch.report.model_page import write_model_report
    from scalesearch.runtime.jax_settings import check_jax
    from scalesearch.search.events import PreparationReports
    from scalesearch.trained.fit import fit

    check_jax()
    initial = None if parsed.origin is None else _initial(parsed, parsed.origin, splits)
    lock = FileLock(Path(folder) / WORKER_LOCK)
    try:
        _acquire(lock)
        fit(parsed, splits, Path(folder), _report, PreparationReports(_report), initial=initial, **(settings or {}))
        try:
            write_model_report(Path(folder), splits)
        except Exception as error:  # the model is trained all the same
            warnings.warn(f"report.html is not written ({first_line(error)}); try `scalesearch report`", stacklevel=1)
    finally:
        lock.release()


def _initial(job: Job, origin: Origin, splits: Splits) -> Callable[[NamedArrays], NamedArrays]:
    """What makes the weights that a transfer begins with. Raises `InputError` if those of its origin are not whole."""
    from scalesearch.models.names import shapes_of

    card, arrays = open_network(origin.source)
    if digest_of(arrays) != origin.digest:
        raise StudyMismatch(f"the weights of {origin.source} have changed since the training was started")
    check_names(arrays, shapes_of(card.spec), origin.source)
    return lambda fresh: transferred_weights(card, arrays, fresh, job.data.classes or splits.classes)


def _acquire(lock: FileLock) -> None:
    """Waits for the worker of a call that was killed, until it has seen that."""
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            interrupts.check()
            time.sleep(_POLL_SECONDS)
        else:
            return


def _report(event: Event) -> None:
    workers.report({_KINDS[type(event)]: dataclasses.astuple(event)})  # type: ignore[arg-type]  # no text


_KINDS: Mapping[type, str] = {
    Preparing: "preparing",
    TrainingStarted: "started",
    PartTrained: "part",
    EpochTrained: "epoch",
}
"""The key of each event's message."""


if __name__ == "__main__":
    code = workers.carry_out(train_job)
    sys.stdout.flush()
    os._exit(code)  # jax takes a second or more to shut down, and its threads may still compile
