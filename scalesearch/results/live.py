"""Reads a run that is still going on, again and again: what its records say, its workers, and what went wrong."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from scalesearch.analysis.outcome import Outcome
from scalesearch.errors import InputError, StorageError
from scalesearch.results.records import TrialRecord, merged_records
from scalesearch.search.plan.design import Plan, make_plan, planned_size
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.activity import Activity
from scalesearch.search.queue.naming import NamedParts, named_parts, stored_parts
from scalesearch.search.queue.reading import Reading, StudyReader
from scalesearch.search.queue.storage import Storage, open_storage, sqlite_url, study_names
from scalesearch.study.load import load_study
from scalesearch.study.sections import Study


def open_run(folder: Path, storage: str | None = None) -> tuple[Study, Storage]:
    """The study of the run in `folder` and its storage, opened for reading. Arguments and errors as `load`."""
    if not (folder / "study.toml").is_file():
        raise InputError(f"{folder}: no run there (a run folder holds a study.toml)")
    study = load_study(folder / "study.toml")
    if storage is None and not (folder / "study.db").is_file():
        raise InputError(f"{folder}: no study.db there yet; the study's storage is elsewhere: give --storage")
    opened = open_storage(storage or sqlite_url(folder), read_only=True)
    if (
        storage
        and (folder / "study.db").is_file()
        and not any(name == study.name or name.startswith(f"{study.name}-epochs-") for name in study_names(opened))
    ):
        raise StorageError(
            f"no study called {study.name!r} in {opened.name}; without --storage, and with SCALESEARCH_STORAGE unset, "
            f"the study.db of {folder} is shown"
        )
    return study, opened


def open_shared(url: str, name: str) -> tuple[Study, Storage, NamedParts]:
    """The study called `name` in a storage, the storage, opened for reading, and the parts of the study there.

    Raises `StorageError` if the storage cannot be read or does not hold the study.
    """
    storage = open_storage(url, read_only=True)
    study, named = stored_parts(storage, name)
    return study, storage, named


class LiveRun:
    """A run that is looked at again and again; a look reads what may have changed.

    Args:
        study: the study of the run.
        storage: where it is stored, opened for reading.
        named: its parts there; None to find them by the study's name.
        clock: seconds that rise steadily.
    """

    def __init__(
        self,
        study: Study,
        storage: Storage,
        named: NamedParts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study, self._storage, self._clock = study, storage, clock
        named = named_parts(storage, study) if named is None else named
        self._parts, self._reference, self.stored_as = named.parts, named.reference.name, named.first
        self._stored = studies.join_study(storage, named.first)
        self._readers: dict[str, StudyReader] = {}
        self._looked: float | None = None  # None if that failed
        self._readings: dict[str, Reading] = {}
        self._outcome: tuple[object, Outcome] | None = None

    def look(self) -> Outcome:
        """What the records say now. Raises `StorageError` if the storage fails."""
        now, before = self._clock(), self._looked
        self._looked = None
        elapsed = 0.0 if before is None else now - before
        names = set(study_names(self._storage))
        wanted = (self._reference, *(part.study.name for part in self._parts))
        self._readings = {name: self._reader(name).read(elapsed) for name in wanted if name in names}
        self._looked = now
        return self._outcome_of(self._readings)

    def _reader(self, name: str) -> StudyReader:
        if name not in self._readers:
            self._readers[name] = StudyReader(studies.join_study(self._storage, name))
        return self._readers[name]

    def _outcome_of(self, readings: dict[str, Reading]) -> Outcome:
        """The outcome; the same object as long as no trial begins or ends, with all that was computed for it."""
        state = {name: (reading.states, len(reading.records)) for name, reading in readings.items()}
        if self._outcome is not None and self._outcome[0] == state:
            return self._outcome[1]
        records: list[TrialRecord] = []
        rungs: dict[int, tuple[TrialRecord, ...]] = {}
        states, days = Counter[str](), []
        for part in self._parts:
            reading = readings.get(part.study.name)
            if reading is None:
                continue  # interrupted before this part began, or written before the study had it
            if part.rung:
                rungs[part.rung] = reading.records
            else:
                records += [dataclasses.replace(record, phi=part.phi) for record in reading.records]
            states.update(reading.states)
            days.append(reading.last_day)
        trained = readings.get(self._reference)
        references = () if trained is None else merged_records(trained.records).values()
        outcome = Outcome(
            study=self._study,
            records=tuple(records),
            rungs=rungs,
            states=dict(states),
            fingerprint=studies.fingerprint_of(self._stored),
            date=max((day for day in days if day), default=None),
            reference=next((dataclasses.replace(one, phi=0.0) for one in references), None),
        )
        self._outcome = state, outcome
        return outcome

    def activity(self) -> Activity:
        """What went on in the run at the last look."""
        readings = self._readings
        running = [each for reading in readings.values() for each in reading.running]
        seconds = [each for reading in readings.values() for each in reading.seconds]
        done = [each for reading in readings.values() for each in reading.records if each.failure is None]
        mean = sum(seconds) / len(seconds) if seconds else None

        # What is left, in trials and in seconds of one worker: each part by its own mean, if it has one.
        trials_left, seconds_left = 0.0, 0.0
        for name, reading in readings.items():
            queued = reading.states["waiting"] + self._unsampled(name, reading)
            left = queued + sum(1 - (each.done or 0.0) for each in reading.running)
            own = sum(reading.seconds) / len(reading.seconds) if reading.seconds else mean or 0.0
            trials_left, seconds_left = trials_left + left, seconds_left + left * own
        at_work = sum(each.is_at_work for each in running)

        not_begun = tuple(
            part.label
            for part in self._parts
            if part.study.name not in readings or not readings[part.study.name].has_begun
        )
        return Activity(
            running=tuple(running),
            setbacks=tuple(setback for reading in readings.values() for setback in reading.setbacks),
            finished=len(seconds),
            mean_seconds=mean,
            images_per_second=sum(record.images_per_second for record in done) / len(done) if done else None,
            trials_left=trials_left,
            seconds_left=seconds_left / at_work if at_work and mean else None,
            labels={self._reference: "baseline", **{part.study.name: part.label for part in self._parts}},
            not_begun=not_begun,
            is_finished=not trials_left and not not_begun and not self._races_go_on(readings),
        )

    def _unsampled(self, name: str, reading: Reading) -> int:
        """How many trials an adaptive design will still add to a stored study; further seeds are queued at once."""
        if self._study.design.kind != "tpe" or name == self._reference:
            return 0
        return max(0, planned_size(self._study, self._plans[name]) - sum(reading.states.values()))

    def _races_go_on(self, readings: dict[str, Reading]) -> bool:
        """Whether a race adds trials, though none is left now."""
        if not self._study.race:
            return False
        from scalesearch.search.plan.racing import next_round  # with scipy

        raced = ((part, readings[part.study.name]) for part in self._parts)
        return any(next_round(part.study, self._plans[part.study.name], reading.records) for part, reading in raced)

    @cached_property
    def _plans(self) -> dict[str, Plan]:
        """The plan of each part; it takes a while to make, and few runs need it."""
        return {part.study.name: make_plan(part.study) for part in self._parts}
