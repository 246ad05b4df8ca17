"""A study read again and again while its workers go on: each finished trial is looked at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial

from scalesearch.results.records import TrialRecord
from scalesearch.search.queue.optuna_study import has_record, record_of, states_of


class _News:
    """The trials of a study that may have changed since the last look: all but those that had finished."""

    def __init__(self) -> None:
        self._unfinished: list[int] = []
        self._known = 0

    def of(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        news = [trials[number] for number in self._unfinished] + list(trials[self._known :])
        self._unfinished = [trial.number for trial in news if not trial.state.is_finished()]
        self._known = len(trials)
        return news


class Reader:
    """Reads the records of a study's trials, each once."""

    def __init__(self) -> None:
        self._news = _News()

    def new(self, trials: Sequence[FrozenTrial]) -> list[TrialRecord]:
        """Those of `trials`, all of a study, that were not read before."""
        return [record_of(trial) for trial in self._news.of(trials) if has_record(trial)]


class Watcher:
    """TEMP."""

    def __init__(self, optuna_study):
        self._study, self._reader, self._tally = optuna_study, Reader(), Tally()

    def look(self):
        trials = self._study.get_trials(deepcopy=False)
        return tuple(self._reader.new(trials)), self._tally.states_of(trials)


class Tally:
    """Counts the trials of a study from look to look, each finished one once."""

    def __init__(self) -> None:
        self._news = _News()
        self._finished: Mapping[str, int] = {}

    def states_of(self, trials: Sequence[FrozenTrial]) -> dict[str, int]:
        """`count_states` of `trials`, all of the study."""
        news = states_of(self._news.of(trials))
        states = {state: self._finished.get(state, 0) + count for state, count in news.items()}
        self._finished = {**states, "waiting": 0, "running": 0}
        return states
