"""A study that is read again and again: each record is given once, each finished trial counted once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scalesearch.results.records import Failure, TrialRecord
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.looks import Reader
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, planted_evaluate, planted_study


def test_a_reader_gives_each_record_once_and_a_tally_counts_each_trial_once(tmp_path: Path) -> None:
    config = planted_study()
    plan = make_plan(config)
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    studies.enqueue_missing(study, plan.trials)
    reader, found = Reader(), list[list[TrialRecord]]()

    def on_look(trials: studies.Trials, states: Mapping[str, int]) -> None:
        found.append(reader.new(trials))
        assert states == studies.states_of(trials)

    def fail(candidate: Candidate) -> Failure | None:
        return Failure("diverged", "planted") if candidate == plan.trials[4].candidate else None

    evaluate = planted_evaluate(PlantedSurface(), fail=fail)
    work(study, config, plan, evaluate, lambda finished: None, lambda running: None, on_look=on_look)
    assert [len(records) for records in found] == [0, *[1] * 15]  # before each trial, and in the end
    assert [record for records in found for record in records] == list(studies.records(study))
