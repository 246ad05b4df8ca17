"""A watcher gives each record once, and counts every trial."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy

from scalesearch.errors import StorageError
from scalesearch.results.records import Failure, TrialRecord
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.looks import Watcher
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, claim, planted_evaluate, planted_study


def test_a_watcher_gives_each_record_once_and_counts_every_trial(storage_url: str) -> None:
    study = planted_study()
    plan = make_plan(study)
    watched = studies.open_study(open_storage(storage_url), study, "digest")
    watcher = Watcher(watched)
    assert watcher.look() == ((), dict.fromkeys(("waiting", "running", "complete", "pruned", "failed"), 0))
    studies.enqueue_missing(watched, plan.trials)
    looks: list[tuple[TrialRecord, ...]] = []

    def fail(candidate: Candidate) -> Failure | None:
        return Failure("diverged", "planted") if candidate == plan.trials[4].candidate else None

    def on_trial(number: int, record: TrialRecord) -> None:
        records, states = watcher.look()
        assert records == (record,)
        assert states == studies.count_states(worked) == studies.count_states(watched)
        assert sum(states.values()) == 15
        assert states["waiting"] == 14 - number
        looks.append(records)

    worked = studies.join_study(open_storage(storage_url), study.name)
    evaluate = planted_evaluate(PlantedSurface(), fail=fail)
    work(worked, study, plan, evaluate, on_trial=on_trial)
    assert [record for records in looks for record in records] == list(studies.records(watched))
    assert watcher.look() == ((), {"waiting": 0, "running": 0, "complete": 14, "pruned": 0, "failed": 1})


def test_a_look_reads_as_much_whatever_waits_or_has_ended(tmp_path: Path) -> None:
    study = planted_study(design={"degree": 5})
    watched = studies.open_study(open_storage(sqlite_url(tmp_path)), study, "digest")
    watcher, worked = Watcher(watched), studies.join_study(open_storage(sqlite_url(tmp_path)), study.name)
    plan = make_plan(study)
    statements: list[str] = []

    @sqlalchemy.event.listens_for(watched.storage.engine, "before_cursor_execute")
    def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("SELECT"):
            statements.append(statement)

    def statements_of_a_look() -> int:
        for _ in range(2):  # what is new, and the id of the first that waits
            watcher.look()
        statements.clear()
        watcher.look()
        return len(statements)

    studies.enqueue_missing(worked, plan.trials[:3])
    few = statements_of_a_look()
    studies.enqueue_missing(worked, plan.trials)
    assert statements_of_a_look() == few < 15
    for _ in range(10):
        worked.tell(claim(worked), 0.5)
    assert statements_of_a_look() == few


def test_a_storage_that_fails_during_a_look_is_one_error(tmp_path: Path) -> None:
    watcher = Watcher(studies.open_study(open_storage(sqlite_url(tmp_path)), planted_study(), "digest"))
    (tmp_path / "study.db").write_bytes(b"no database any more" * 1000)
    with pytest.raises(StorageError, match="failed while it was used .*; run the same command again to resume"):
        watcher.look()
