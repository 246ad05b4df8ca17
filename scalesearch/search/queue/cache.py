"""Optuna's cache of a storage, read no more often than what it holds can change."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Container, Sequence
from datetime import datetime
from typing import Any

from optuna.storages import RDBStorage, _CachedStorage
from optuna.storages._cached_storage import _StudyInfo
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import select

# Whether a worker died is asked at most so often.
STALE_SECONDS = 1.0


class OneLook(_CachedStorage):
    """Optuna's cache of a storage, without what it would read twice.

    A trial that waits is as it was queued: of those a look reads which ones still wait, where Optuna reads all that
    they hold. A claim goes by the look at all trials that came right before it: Optuna looks once more to find one
    that waits, which a worker has just done. The storage refuses a trial that another worker claimed in between, and
    Optuna goes on to the next. What the claimed trial holds is known then, and what its worker adds; where another one
    has given it up for dead, the storage refuses that. Whether a worker died is not asked before each of many short
    trials.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._looked: int | None = None  # the study whose trials were read since, and are good for a claim
        self._claimed: FrozenTrial | None = None  # the trial that was claimed here, while its copy is exact
        self._in_order: dict[int, list[FrozenTrial]] = {}  # of each study, by their numbers
        self._asked = -math.inf  # when it was asked who died, by `time.monotonic`

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """A further trial, which no look has shown."""
        self._looked = None
        return super().create_new_trial(study_id, template_trial)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials of a study, in their order."""
        looked, self._looked = self._looked, None
        if states == (TrialState.WAITING,) and looked == study_id and not deepcopy:
            return self._queued(study_id)
        if states is not None:
            return super().get_all_trials(study_id, deepcopy, states)
        self._read_trials_from_remote_storage(study_id)
        self._looked = study_id
        trials = self._in_order[study_id]
        return copy.deepcopy(trials) if deepcopy else list(trials)

    def delete_study(self, study_id: int) -> None:
        """The study and its trials; a later study may have its key."""
        self._in_order.pop(study_id, None)
        super().delete_study(study_id)

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        with self._lock:
            study = self._studies.setdefault(study_id, _StudyInfo())
            in_order = self._in_order.setdefault(study_id, [])
            queued = {trial._trial_id for trial in self._queued(study_id)}
            changed = study.unfinished_trial_ids - self._waiting(study_id, queued)
            known = max((study.last_finished_trial_id, *study.unfinished_trial_ids))
            trials = self._backend._get_trials(study_id, None, changed, known)
            self._add_trials_to_cache(study_id, trials)
            for trial in trials:  # by ascending keys, hence numbers, which have no gaps
                in_order[trial.number : trial.number + 1] = [trial]
            finished = {trial._trial_id for trial in trials if trial.state.is_finished()}
            study.unfinished_trial_ids |= {trial._trial_id for trial in trials}
            study.unfinished_trial_ids -= finished
            study.last_finished_trial_id = max((study.last_finished_trial_id, *finished))

    def _queued(self, study_id: int) -> list[FrozenTrial]:
        """The trials that waited at the last look, in their order."""
        keys = self._studies[study_id].unfinished_trial_ids
        numbers = sorted(self._trial_id_to_study_id_and_number[key][1] for key in keys)
        unfinished = map(self._in_order[study_id].__getitem__, numbers)
        return [trial for trial in unfinished if trial.state == TrialState.WAITING]

    def _waiting(self, study_id: int, queued: set[int]) -> set[int]:
        """Which of the trials that were `queued` still wait."""
        if not queued:
            return queued
        wanted = select(TrialModel.trial_id).where(
            TrialModel.study_id == study_id,
            TrialModel.state == TrialState.WAITING,
            TrialModel.trial_id.between(min(queued), max(queued)),
        )
        with self._backend.engine.connect() as connection:
            return queued.intersection(connection.execute(wanted).scalars())

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Whether it was done: a trial is claimed once. Raises `UpdateFinishedTrialError` for one that has ended."""
        self._claimed = None
        done = super().set_trial_state_values(trial_id, state, values)
        if done and state == TrialState.RUNNING and trial_id in self._trial_id_to_study_id_and_number:
            study, number = self._trial_id_to_study_id_and_number[trial_id]
            self._claimed = copy.deepcopy(self._studies[study].trials[number])
            self._claimed.state, self._claimed.datetime_start = state, datetime.now()
        return done

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """What a sampler or a pruner notes, past `optuna.Trial`."""
        self._claimed = None
        super().set_trial_system_attr(trial_id, key, value)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial; of one claimed here the copy in which `optuna.Trial` notes what it writes."""
        own = self._claimed
        return own if own is not None and own._trial_id == trial_id else super().get_trial(trial_id)

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        now = time.monotonic()
        if now < self._asked + STALE_SECONDS:
            return []
        self._asked = now
        return super()._get_stale_trial_ids(study_id)
