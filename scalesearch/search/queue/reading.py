"""Reads what a stored study holds at one moment: its records, who runs its trials, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from scalesearch.results.records import PRUNED, TrialRecord
from scalesearch.runtime.presence import has_ended
from scalesearch.search.queue.activity import GIVEN_UP, TAKEN_BACK, RunningTrial, Setback
from scalesearch.search.queue.lease import sign_of
from scalesearch.search.queue.storage import storage_errors
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.trials import (
    candidate_of,
    deaths_of,
    done_of,
    has_record,
    is_given_up,
    record_of,
    seeds_of,
    states_of,
    with_records,
    worker_of,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A stored study at one moment.

    Attributes:
        records: those of the trials that have ended, in the order in which their networks were queued.
        states: how many trials are waiting, running, complete, pruned, and failed for a recorded reason.
        last_day: the day, in ISO form, on which the last trial with a record ended; None before there is one.
        running: the trials that workers run.
        setbacks: the trials that failed, or whose workers died and that are not done since.
        seconds: how long each trial took that is complete or pruned, by the clock of its worker's machine.
        has_begun: whether any trial was queued.
    """

    records: tuple[TrialRecord, ...]
    states: Mapping[str, int]
    last_day: str | None
    running: tuple[RunningTrial, ...]
    setbacks: tuple[Setback, ...]
    seconds: tuple[float, ...]
    has_begun: bool


class StudyReader:
    """Reads a stored study again and again; each record is parsed once."""

    def __init__(self, optuna_study: StoredStudy) -> None:
        self._optuna_study = optuna_study
        self._records: dict[int, TrialRecord] = {}  # by number
        self._signs: dict[int, tuple[object, float, bool]] | None = None  # as the last attributes of `RunningTrial`

    @storage_errors()
    def read(self, elapsed: float = 0.0) -> Reading:
        """The study as it is now. Raises `StorageError` if the storage fails.

        `elapsed` is how many seconds the storage has been seen to answer since the last reading.
        """
        trials = self._optuna_study.get_trials(deepcopy=False)
        ended = with_records(trials)
        for trial in ended:
            if trial.number not in self._records:
                self._records[trial.number] = record_of(trial)
        last = max((trial.datetime_complete for trial in ended if trial.datetime_complete is not None), default=None)
        return Reading(
            records=tuple(self._records[trial.number] for trial in ended),
            states=states_of(trials),
            last_day=last.date().isoformat() if last else None,
            running=self._running([trial for trial in trials if trial.state == TrialState.RUNNING], elapsed),
            setbacks=tuple(setback for trial in trials if (setback := self._setback(trial)) is not None),
            seconds=tuple(
                (trial.datetime_complete - trial.datetime_start).total_seconds()
                for trial in ended
                if trial.state != TrialState.FAIL and trial.datetime_complete and trial.datetime_start
            ),
            has_begun=bool(trials),
        )

    def _running(self, trials: list[FrozenTrial], elapsed: float) -> tuple[RunningTrial, ...]:
        before, self._signs = self._signs, {}
        running = []
        for trial in trials:
            sign = sign_of(trial)
            # One that was claimed since the last reading has given a sign since.
            last, silent, was_seen = (before or {}).get(
                trial.number, (None if before is not None else sign, 0.0, False)
            )
            silent, was_seen = (silent + elapsed, was_seen) if sign == last else (0.0, True)
            self._signs[trial.number] = (sign, silent, was_seen)
            candidate, worker = candidate_of(trial), worker_of(trial)
            running.append(
                RunningTrial(
                    study=self._optuna_study.study_name,
                    number=trial.number,
                    candidate=candidate,
                    seeds=() if candidate is None else seeds_of(trial),
                    started=trial.datetime_start,
                    worker=worker,
                    done=done_of(trial),
                    has_ended=has_ended(worker),
                    silent_seconds=silent,
                    was_seen=was_seen,
                )
            )
        return tuple(running)

    def _setback(self, trial: FrozenTrial) -> Setback | None:
        record, deaths = self._records.get(trial.number), tuple(deaths_of(trial))
        reasons: tuple[str, ...]
        kind: str
        if record is not None and record.failure is not None and record.status != PRUNED:
            kind, reasons = record.failure.kind, (record.failure.reason,)
        elif deaths and not has_record(trial):
            kind, reasons = GIVEN_UP if is_given_up(trial) else TAKEN_BACK, deaths
        else:
            return None
        return Setback(self._optuna_study.study_name, trial.number, candidate_of(trial), kind, reasons)
