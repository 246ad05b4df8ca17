"""Leases: a worker holds the trial that it runs, and gives it back; others take back the trials of dead workers.

A trial goes back by one write, from running to waiting. It stays the same trial, so nothing is lost between two
writes, and two workers that both believe to hold it still give one result.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Mapping
from typing import Any, Self

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from scalesearch.errors import StorageError
from scalesearch.results.records import PRUNED, TrialRecord
from scalesearch.runtime.presence import has_ended
from scalesearch.runtime.workers import MAX_DEATHS
from scalesearch.search.queue.patience import reason_of, waiting
from scalesearch.search.queue.storage import Storage
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.trials import BEAT, DEATHS, WORKER, Trials, deaths_of, kept_record, worker_of

_log = logging.getLogger(__name__)

BEAT_SECONDS = 15.0
"""How often a worker says that it lives, in the trial that it runs."""

RETRY_SECONDS = 2.0
"""How soon it tries again where the storage did not take it."""

GRACE_SECONDS = 60.0
"""A worker whose beat has not changed for so long, by the clock of the one that looks, counts as dead."""


class Lease:
    """A worker's hold on a trial: a context in which a thread says from time to time that the worker lives.

    Args:
        storage: where the trial is stored.
        trial_id: Optuna's id of the trial.
        worker: who holds it, as `runtime.presence.present` gives it.
        beat_seconds: how often it says so.
    """

    def __init__(
        self, storage: Storage, trial_id: int, worker: Mapping[str, Any], beat_seconds: float = BEAT_SECONDS
    ) -> None:
        self._storage, self._trial_id, self._worker = storage, trial_id, worker
        self._beat_seconds = beat_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self.done = 0.0
        """The fraction of the trial that is trained; each beat stores it."""
        self.is_over = False
        """Whether another worker has ended the trial."""

    def __enter__(self) -> Self:
        self._storage.set_trial_user_attr(self._trial_id, WORKER, dict(self._worker))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def give_back(self, death: str = "") -> None:
        """Puts the trial back into the queue, unless another worker holds it now; `death`: what ended this worker."""
        passing = (StorageError, StorageInternalError, SQLAlchemyError, UpdateFinishedTrialError)
        with contextlib.suppress(*passing), waiting(0.0):
            trial = self._storage.get_trial(self._trial_id)
            is_held = trial.state == TrialState.RUNNING and worker_of(trial) == self._worker
            if is_held and kept_record(trial) is None:  # else whoever takes it back ends it
                _put_back(self._storage, self._trial_id, trial, death)

    def _beat(self) -> None:
        count, pause = 0, self._beat_seconds
        while not self._stop.wait(pause):
            count += 1
            try:
                self._storage.set_trial_user_attr(self._trial_id, BEAT, [count, self.done])
                pause = self._beat_seconds
            except UpdateFinishedTrialError:
                self.is_over = True
                break
            except Exception as error:  # whatever it is, the next one may be stored
                _log.info("a sign of life could not be stored: %s", reason_of(error))
                pause = min(RETRY_SECONDS, self._beat_seconds)
        self._storage.remove_session()


def end(storage: Storage, trial_id: int, record: TrialRecord, metric: str) -> None:
    """Ends a trial whose record is stored. Raises `UpdateFinishedTrialError` if it has ended."""
    if record.status == PRUNED:
        values = storage.get_trial(trial_id).intermediate_values
        last = values[max(values)] if values else math.nan
        storage.set_trial_state_values(trial_id, TrialState.PRUNED, [last] if math.isfinite(last) else None)
    elif record.failure is not None:
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
    else:
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [record.mean(metric)])


class LostTrials:
    """Takes back the trials of dead workers.

    A worker of this machine is dead once nobody holds its lock. Of others only signs of life tell, and the time
    without one is measured by this process's own monotonic clock, while the storage answers: neither a wrong clock
    nor a storage that was away makes a living worker dead.

    Args:
        optuna_study: the stored study.
        metric: what its trials are judged by.
        grace_seconds: how long a worker may give no sign of life.
    """

    def __init__(self, optuna_study: StoredStudy, metric: str, grace_seconds: float = GRACE_SECONDS) -> None:
        self._optuna_study, self._metric, self._grace = optuna_study, metric, grace_seconds
        self._seen: dict[int, tuple[object, float]] = {}  # by number: the last sign, and for how long it is the last
        self._looked = time.monotonic()

    def take_back(self, trials: Trials) -> bool:
        """Puts the trials of dead workers back into the queue; whether there were any.

        `trials` are all trials of the study, just read.
        """
        has_taken = False
        now = time.monotonic()
        # A longer one may be the storage's silence: after it, each worker has time for a sign of life.
        step, self._looked = min(now - self._looked, self._grace / 4), now
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        before, self._seen = self._seen, {}
        for trial in running:
            sign = sign_of(trial)
            last, silent = before.get(trial.number, (sign, 0.0))
            silent = silent + step if sign == last else 0.0
            self._seen[trial.number] = (sign, silent)
            worker = worker_of(trial)
            name = f"process {worker.get('process', '?')} on {worker.get('host', '?')}"
            if has_ended(worker):
                death = f"{name} ended"
            elif silent >= self._grace:
                death = f"no sign of life from {name} for {self._grace:.0f} s"
            else:
                continue
            try:
                has_taken |= self._take_back(trial, death)
            except (StorageInternalError, SQLAlchemyError) as error:
                # What takes no writes, as with a full disk, takes no signs of life either: all begin anew.
                _log.info("trial %d could not be taken back: %s", trial.number, reason_of(error))
                self._seen.clear()
                break
        return has_taken

    def _take_back(self, trial: FrozenTrial, death: str) -> bool:
        storage = self._optuna_study.storage
        try:
            with waiting(0.0):  # after a wait, what was read may be old: others may have taken it back and claimed it
                trial_id = self._optuna_study.id_of(trial.number)
                current = storage.get_trial(trial_id)
                if current.state != TrialState.RUNNING or sign_of(current) != sign_of(trial):
                    return False  # another worker was faster, or this one lives
                record = kept_record(current)
                if record is None:
                    _put_back(storage, trial_id, current, death)
                else:  # it died between its record and its end
                    end(storage, trial_id, record, self._metric)
                self._optuna_study.read_again(trial.number)
        except UpdateFinishedTrialError:
            return True
        _log.info("trial %d: %s", trial.number, death)
        return True


def _put_back(storage: Storage, trial_id: int, trial: FrozenTrial, death: str) -> None:
    deaths = [*deaths_of(trial), *([death] if death else [])]
    if death:
        storage.set_trial_user_attr(trial_id, DEATHS, deaths)
    # Whoever claims it next says so a moment later. Until then it must not be judged by the worker that has ended.
    storage.set_trial_user_attr(trial_id, WORKER, {})
    storage.set_trial_user_attr(trial_id, BEAT, None)  # what it had trained is lost
    current = storage.get_trial(trial_id)
    if current.state != TrialState.RUNNING or current.datetime_start != trial.datetime_start:
        return  # another worker was faster, and perhaps a third has claimed it
    storage.set_trial_state_values(trial_id, TrialState.WAITING if len(deaths) <= MAX_DEATHS else TrialState.FAIL)


def sign_of(trial: FrozenTrial) -> object:
    """What changes while the worker of a running trial lives, or when another one claims it."""
    return trial.datetime_start, trial.user_attrs.get(WORKER), trial.user_attrs.get(BEAT)
