"""Watch a study while its workers go on: each record is read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import optuna

from scalesearch.results.records import TrialRecord
from scalesearch.search.queue.storage import storage_errors
from scalesearch.search.queue.trials import has_record, record_of, states_of


class Watcher:
    """Looks at a study again and again, for the process that shows its progress.

    A look takes a few milliseconds if nothing has changed, however many trials have ended or wait.
    """

    def __init__(self, optuna_study: optuna.Study) -> None:
        self._optuna_study = optuna_study
        self._unfinished: list[int] = []  # numbers of the trials that had not ended at the last look
        self._known = 0  # trials at the last look
        self._ended = Counter[str]()  # trials that had ended, by state

    @storage_errors()
    def look(self) -> tuple[tuple[TrialRecord, ...], Mapping[str, int]]:
        """What has changed since the last look.

        Returns:
            The records of the trials that have ended since, and how many trials of all are `waiting`, `running`,
            `complete`, `pruned`, or `failed` for a recorded reason.

        Raises:
            StorageError: the storage failed.
        """
        trials = self._optuna_study.get_trials(deepcopy=False)
        changed = [trials[number] for number in self._unfinished] + trials[self._known :]
        ended = [trial for trial in changed if trial.state.is_finished()]
        self._unfinished = [trial.number for trial in changed if not trial.state.is_finished()]
        self._known = len(trials)
        self._ended.update(states_of(ended))
        unfinished = states_of([trials[number] for number in self._unfinished])
        states = {state: count + self._ended[state] for state, count in unfinished.items()}
        return tuple(record_of(trial) for trial in ended if has_record(trial)), states
