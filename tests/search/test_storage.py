"""Storages: what cannot be opened is said in one line, without passwords; one taker for each trial; copies."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine, text

from scalesearch.errors import StorageError
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue import storage
from scalesearch.search.queue.storage import copy_to_folder, hidden, open_storage, sqlite_url, study_names
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, claim, planted_evaluate, planted_study

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:s3cret@host:5432/db", "postgresql+psycopg://me@host:5432/db"),
        ("postgresql+psycopg://me:p@s3cret@host/db", "postgresql+psycopg://me@host/db"),
        ("postgresql+psycopg://me@host/db?password=s3cret", "postgresql+psycopg://me@host/db"),
        ("postgresql+psycopg://host/db", "postgresql+psycopg://host/db"),
        ("sqlite:////tmp/study.db", "sqlite:////tmp/study.db"),
        ("me:s3cret@host/db", "'host/db'"),
        ("study.db", "'study.db'"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert hidden(url) == shown
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("study.db", "cannot be used"),
        ("me:s3cret@host/db", "cannot be used"),
        ("", "cannot be used"),
        ("nosuch://me:s3cret@host/db", "nosuch"),
        ("mysql://me:s3cret@host/db", "MySQLdb"),
        ("postgresql+psycopg://me:s3cret@host:port/db", "not an SQLAlchemy URL"),
        ("postgresql+psycopg://me:s3cret@127.0.0.1:1/db", "cannot be opened"),
        ("sqlite:////no/such/folder/study.db", "unable to open database file"),
    ],
)
def test_a_url_that_cannot_be_opened_is_one_line(url: str, reason: str) -> None:
    with pytest.raises(StorageError, match=reason) as caught:
        open_storage(url)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("these are no pages\n" * 100, encoding="utf-8")
    with pytest.raises(StorageError, match="file is not a database"):
        open_storage(sqlite_url(tmp_path))


@pytest.mark.postgresql
def test_a_wrong_password_is_not_shown(postgresql_url: str) -> None:
    with pytest.raises(StorageError, match="password authentication failed") as caught:
        open_storage(postgresql_url.replace("s3cret", "wr0ng"))
    assert "wr0ng" not in str(caught.value)


_CLAIM = """
import sys
import optuna
from scalesearch.search.queue.storage import open_storage
study = optuna.load_study(storage=open_storage(sys.argv[1]), study_name="claims")
print("ready", flush=True)
sys.stdin.readline()
while (trial := study._pop_waiting_trial_id()) is not None:
    print(trial)
"""


@pytest.mark.slow
def test_four_processes_claim_each_trial_once(storage_url: str) -> None:
    """SQLite has no SELECT … FOR UPDATE: with Optuna alone a fifth of these trials is claimed twice."""
    study = optuna.create_study(storage=open_storage(storage_url), study_name="claims")
    for index in range(40):
        study.enqueue_trial({"x": index / 40})
    command = [sys.executable, "-c", _CLAIM, storage_url]
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claims = Counter(trial for worker in workers for trial in worker.communicate()[0].split())
    assert len(claims) == 40
    assert set(claims.values()) == {1}


def test_a_reader_waits_for_no_writer(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(sqlite_url(tmp_path)), study_name="read")
    study.enqueue_trial({"x": 0.5})
    with sqlite3.connect(tmp_path / "study.db", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert study_names(open_storage(sqlite_url(tmp_path), read_only=True)) == ["read"]
        writer.execute("ROLLBACK")
    writer.close()


def test_a_copy_holds_the_study_without_what_runs_and_keeps_its_neighbours(tmp_path: Path) -> None:
    config = planted_study()
    plan = make_plan(config)
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    study = studies.open_study(open_storage(sqlite_url(there)), config, "digest")
    studies.enqueue_missing(study, plan.trials)
    optuna.create_study(storage=open_storage(sqlite_url(here)), study_name="neighbour")
    claim(study)
    copy_to_folder(study, here)
    copied = studies.join_study(open_storage(sqlite_url(here)), config.name)
    assert [trial.state for trial in copied.trials] == [TrialState.WAITING] * 14
    assert studies.enqueue_missing(copied, plan.trials) == 1

    evaluate = planted_evaluate(PlantedSurface())
    study.tell(0, state=TrialState.FAIL)
    studies.enqueue_missing(study, plan.trials)
    work(study, config, plan, evaluate, lambda finished: None, lambda running: None)
    copy_to_folder(study, here)
    storage = open_storage(sqlite_url(here))
    copied = studies.join_study(storage, config.name)
    assert studies.records(copied) == studies.records(study)
    assert copied.metric_names == ["val_loss"]
    assert copied.user_attrs == study.user_attrs
    assert [(t.params, t.distributions, t.value) for t in copied.trials] == [
        (t.params, t.distributions, t.value) for t in study.trials
    ]
    assert study_names(storage) == ["neighbour", "planted"]
    assert sorted(path.name for path in here.iterdir()) == ["study.db"]


def test_a_claim_goes_by_the_look_before_it_and_takes_what_no_other_worker_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = planted_study(design={"degree": 1})
    own = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    other = studies.join_study(open_storage(sqlite_url(tmp_path)), config.name)
    studies.enqueue_missing(own, make_plan(config).trials)
    reads: list[int] = []
    read = RDBStorage._get_trials

    def counted(self: RDBStorage, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        reads.append(1)
        return read(self, *arguments, **options)

    monkeypatch.setattr(RDBStorage, "_get_trials", counted)
    own.get_trials(deepcopy=False)
    assert claim(other).number == 0
    reads.clear()
    assert claim(own).number == 1
    assert len(reads) == 0
    assert claim(own).number == 2  # with no look since: Optuna looks itself
    assert len(reads) == 1


def test_a_trial_queued_after_the_look_can_be_claimed(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    study.get_trials(deepcopy=False)
    studies.enqueue_missing(study, make_plan(config).trials)
    assert studies.is_queued(claim(study))


def test_a_look_reads_what_may_have_changed_and_no_trial_that_waits_still(storage_url: str) -> None:
    config = planted_study(design={"degree": 2})
    own = studies.open_study(open_storage(storage_url), config, "digest")
    other = studies.join_study(open_storage(storage_url), config.name)
    plan = make_plan(config).trials
    studies.enqueue_missing(own, plan[:-1])
    first = own.get_trials(deepcopy=False)
    done, failed, runs = claim(other), claim(other), claim(other)
    other.tell(done, 1.0)
    other.tell(failed, state=TrialState.FAIL)
    runs.set_user_attr("said", "before")
    studies.enqueue_missing(other, plan[-1:])
    seen = own.get_trials(deepcopy=False)
    running, waiting = TrialState.RUNNING, TrialState.WAITING
    states = [TrialState.COMPLETE, TrialState.FAIL, running, *[waiting] * (len(plan) - 3)]
    assert [trial.state for trial in seen] == states
    assert (seen[0].value, seen[2].user_attrs["said"]) == (1.0, "before")
    assert [trial.number for trial in seen if any(trial is old for old in first)] == list(range(3, len(first)))
    runs.set_user_attr("said", "after")
    assert own.get_trials(deepcopy=False)[2].user_attrs["said"] == "after"
    assert [trial.number for trial in own.get_trials(states=(waiting,))] == list(range(3, len(plan)))


def test_a_claimed_trial_is_known_by_the_look_and_not_told_where_another_worker_gave_it_up(storage_url: str) -> None:
    config = planted_study(design={"degree": 1})
    own = studies.open_study(open_storage(storage_url), config, "digest")
    other = studies.join_study(open_storage(storage_url), config.name)
    studies.enqueue_missing(own, make_plan(config).trials)
    queued = own.get_trials()[0]
    trial = claim(own)
    stored = other.trials[0]
    assert trial._cached_frozen_trial.user_attrs == stored.user_attrs == queued.user_attrs
    assert (trial.params, trial.distributions) == (stored.params, stored.distributions)
    assert trial._cached_frozen_trial.state == stored.state == TrialState.RUNNING
    assert trial.datetime_start is not None
    assert stored.datetime_start is not None
    assert abs((trial.datetime_start - stored.datetime_start).total_seconds()) < 60
    assert own.get_trials()[0] == stored
    trial.report(2.0, step=1)
    trial.set_user_attr("said", [1, 2])
    own._storage.set_trial_system_attr(trial._trial_id, "rung", 3.0)  # as pruners do
    assert own._storage.get_trial(trial._trial_id).system_attrs["rung"] == 3.0
    own.tell(trial, state=TrialState.PRUNED)
    ended = other.trials[0]
    assert (ended.state, ended.value, ended.user_attrs["said"]) == (TrialState.PRUNED, 2.0, [1, 2])
    assert own.get_trials()[0] == own._storage.get_trial(ended._trial_id) == ended

    trial = claim(own)
    other.tell(trial.number, state=TrialState.FAIL)  # as a worker that gives this one up for dead
    with pytest.raises(UpdateFinishedTrialError):
        own.tell(trial, 1.0)
    assert other.trials[trial.number].state == own._storage.get_trial(trial._trial_id).state == TrialState.FAIL


def test_a_study_that_takes_the_key_of_a_deleted_one_has_trials_of_its_own(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    first = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    studies.enqueue_missing(first, make_plan(config).trials)
    assert len(first.get_trials()) == 3
    optuna.delete_study(study_name=config.name, storage=first._storage)
    second = optuna.create_study(study_name="second", storage=first._storage)
    assert second._study_id == first._study_id
    second.enqueue_trial({})
    assert [trial.number for trial in second.get_trials()] == [0]


def test_who_died_is_asked_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), planted_study(), "digest")
    asked: list[int] = []
    monkeypatch.setattr(RDBStorage, "_get_stale_trial_ids", lambda storage, key: asked.append(key) or [])
    clock = [100.0]
    monkeypatch.setattr(storage.time, "monotonic", lambda: clock[0])
    for clock[0] in (100.0, 100.5, 100.9, 101.1, 101.2):
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            optuna.storages.fail_stale_trials(study)
    assert len(asked) == 2


def test_a_connection_that_broke_while_it_rested_is_replaced(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart of the server during a training. One that did not rest is not tried."""
    opened = open_storage(postgresql_url)
    pings: list[int] = []
    dialect = opened.engine.dialect
    ping = dialect.do_ping
    monkeypatch.setattr(dialect, "do_ping", lambda connection: pings.append(1) or ping(connection))
    monkeypatch.setattr(storage, "REST_SECONDS", 3600.0)
    for _ in range(3):  # each connection of the pool
        study_names(opened)
    pings.clear()
    study_names(opened)
    assert pings == []
    other = create_engine(postgresql_url)
    with other.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.dispose()
    monkeypatch.setattr(storage, "REST_SECONDS", 0.0)
    for _ in range(3):
        assert study_names(opened) == []
    assert pings
