"""Optuna's study with its storage: its trials are read again only where they may have changed."""

from __future__ import annotations

import copy
from bisect import insort
from collections import deque
from collections.abc import Container

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from scalesearch.errors import InputError, StorageError
from scalesearch.search.queue.damage import check_trial
from scalesearch.search.queue.patience import PatientStorage
from scalesearch.search.queue.trials import was_held

_READ_TOGETHER = 5
"""To read a trial by itself takes as long as so many of them together."""


class QueueEmpty(Exception):
    """Other workers claimed all trials that waited at the last look."""


class StoredStudy(optuna.Study):
    """Optuna's study in a database, for many workers and many trials.

    Optuna's own cache reads every trial that has not ended, each time. So its looks and claims take longer the longer
    the queue is. This class reads what may have changed (`TrialCache`), and claims from what it has read. The storage
    lets one worker claim each trial.

    Args:
        storage: the storage that holds the study.
        name: the study's name there. Raises `KeyError` if there is no study of this name.
    """

    def __init__(self, storage: PatientStorage, name: str) -> None:
        super().__init__(name, storage)
        self.storage = storage
        self.study_id = storage.get_study_id_from_name(name)
        self._trial_cache = TrialCache(storage, self.study_id)

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """The trials in the order of their numbers, as `optuna.Study.get_trials` gives them."""
        trials = self._trial_cache.read()
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def trials_to_claim(self) -> list[FrozenTrial]:
        """All trials, for a worker that claims the next: as `get_trials`, with fewer reads.

        While some trials are known to wait, it is not checked which of them other workers have claimed, or which came
        after them; the claim checks that. Nor is read how those that ran have ended: they are shown as failed.
        """
        return self._trial_cache.read(check_queue=False)

    def read_again(self, number: int) -> None:
        """Reads a trial whose state was changed here."""
        self._trial_cache.read_again(number)

    def ask(self, fixed_distributions: dict[str, BaseDistribution] | None = None) -> optuna.Trial:
        """Claim the first trial that waited at the last look; if none did, what `optuna.Study.ask` gives.

        Raises `QueueEmpty` if some waited, but other workers have claimed them all.
        """
        waiting = self._trial_cache.first_waiting
        # Optuna's own `ask` prepares a trial whose parameters are still to be set.
        if waiting is None or not waiting.params or fixed_distributions:
            return super().ask(fixed_distributions)
        trial_id = self._trial_cache.claim()
        if trial_id is None:
            raise QueueEmpty
        return optuna.Trial(self, trial_id)

    def id_of(self, number: int) -> int:
        """Optuna's id of a trial that was read. Raises `StorageError` if it is not there any more."""
        return self._trial_cache.id_of(number)


class TrialCache:
    """All trials of a study; `read` asks the storage only for those that may have changed.

    A trial that has ended does not change. Trials are claimed in the order of their numbers: if one waits that nobody
    ever held, all that were queued after it wait, too. Running trials are read each time.
    """

    def __init__(self, storage: PatientStorage, study_id: int) -> None:
        self._storage, self._study = storage, study_id  # Optuna's id of the study
        self._trials: list[FrozenTrial] = []  # by number
        self._waiting = deque[int]()  # numbers of the trials that wait, ascending
        self._claimed = set[int]()  # numbers of those that were claimed and had not ended
        self._ids: dict[int, int] = {}  # Optuna's ids of trials that had not ended, by number

    def read(self, *, check_queue: bool = True) -> list[FrozenTrial]:
        """All trials in the order of their numbers, as they are now. Do not change them.

        Without `check_queue`, see `StoredStudy.trials_to_claim`.
        """
        if not self._trials:
            for trial in self._storage.get_all_trials(self._study, deepcopy=False):
                self._append(trial)
            return list(self._trials)

        # Trials that run.
        read = self._storage.get_all_trials(self._study, deepcopy=False, states=(TrialState.RUNNING,))
        running = {trial.number: trial for trial in read}
        for trial in read:
            if trial.number < len(self._trials):
                self._update(trial)
        while self._waiting and self._waiting[0] in self._claimed:
            self._waiting.popleft()

        # Those that ran at the last look. Of many workers each would read what all others have trained.
        gone = self._claimed - running.keys()
        # Optuna claims a trial without its parameters itself, past this cache.
        if not check_queue and self._waiting and self._trials[self._waiting[0]].params:
            return [_unread(trial) if trial.number in gone else trial for trial in self._trials]
        if len(gone) * _READ_TOGETHER > len(self._trials):
            for trial in self._storage.get_all_trials(self._study, deepcopy=False):
                if trial.number in gone:
                    self._update(trial)
        else:
            for number in gone:
                self._update(self._get(number))

        # Trials that were claimed since, up to the first that still waits and was never given back.
        for number in tuple(self._waiting):
            if not check_queue and self._trials[number].params:
                return list(self._trials)
            trial = self._get(number)
            if trial.state != TrialState.WAITING:
                self._waiting.remove(number)
                self._update(trial)
            elif not was_held(trial):
                break

        # New trials: several at once are read with all that wait.
        queued: dict[int, FrozenTrial] = {}
        known = len(self._trials)
        while (number := len(self._trials)) in running or number in queued or self._find_id(number):
            if number == known + 1:
                read = self._storage.get_all_trials(self._study, deepcopy=False, states=(TrialState.WAITING,))
                queued = {trial.number: trial for trial in read}
            self._append(running.get(number) or queued.get(number) or self._get(number))
        return list(self._trials)

    def read_again(self, number: int) -> None:
        """Reads one trial."""
        self._update(self._get(number))

    @property
    def first_waiting(self) -> FrozenTrial | None:
        """The first trial that waited at the last look and was not claimed here since; None if there is none."""
        return self._trials[self._waiting[0]] if self._waiting else None

    def claim(self) -> int | None:
        """Claim the first of the trials waiting at the last look that still waits; Optuna's id of it, or None."""
        while self._waiting:
            number = self._waiting.popleft()
            self._claimed.add(number)  # here or elsewhere
            try:
                if self._storage.set_trial_state_values(self.id_of(number), state=TrialState.RUNNING):
                    return self.id_of(number)
            except UpdateFinishedTrialError:  # claimed and ended elsewhere
                continue
        return None

    def id_of(self, number: int) -> int:
        """Optuna's id of a trial that was read. Raises `StorageError` if it is not there any more."""
        found = self._find_id(number)
        if found is None:
            raise StorageError(f"the study was removed from {self._storage.name} while it was used")
        return found

    def _find_id(self, number: int) -> int | None:
        if number not in self._ids:
            try:
                self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(self._study, number)
            except KeyError:
                return None
        return self._ids[number]

    def _get(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self.id_of(number))

    def _check(self, trial: FrozenTrial, number: int) -> None:
        """Raises `StorageError` for a trial whose row is damaged: no function meets one."""
        try:
            check_trial(trial, number)
        except InputError as error:
            name = self._storage.get_study_name_from_id(self._study)
            raise StorageError(
                f"the study {name!r} in {self._storage.name}: trial {number} is damaged ({error})"
            ) from None

    def _append(self, trial: FrozenTrial) -> None:
        self._check(trial, len(self._trials))
        self._trials.append(trial)
        if trial.state == TrialState.WAITING:
            self._waiting.append(trial.number)
        else:
            self._update(trial)

    def _update(self, trial: FrozenTrial) -> None:
        if trial is not self._trials[trial.number]:
            self._check(trial, trial.number)
        self._trials[trial.number] = trial
        if trial.state.is_finished():
            self._claimed.discard(trial.number)
            self._ids.pop(trial.number, None)
        elif trial.state == TrialState.WAITING:  # it was given back
            self._claimed.discard(trial.number)
            if trial.number not in self._waiting:
                insort(self._waiting, trial.number)
        else:
            self._claimed.add(trial.number)


def _unread(trial: FrozenTrial) -> FrozenTrial:
    """A trial that ran, and of which only is known that it does not any more."""
    trial = copy.copy(trial)
    trial.state = TrialState.FAIL
    return trial
