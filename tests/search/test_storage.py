"""Storages: errors in one line, without passwords; each trial claimed once; looks that read what changed; copies."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import OperationalError

from scalesearch.errors import InputError, StorageError
from scalesearch.runtime import interrupts
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue import patience
from scalesearch.search.queue.patience import patiently, waiting
from scalesearch.search.queue.storage import copy_to_folder, open_storage, sqlite_url, study_names
from scalesearch.search.queue.storage_url import hidden
from scalesearch.search.queue.stored_study import QueueEmpty, StoredStudy
from scalesearch.search.queue.trials import is_planned
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
        ("nosuch://me:s3cret@host/db", "nosuch"),
        ("mysql://me:s3cret@host/db", "MySQLdb"),
        ("postgresql+psycopg2://me:s3cret@host/db", r"No module named 'psycopg2'\)"),
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
@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ("s3cret", "wr0ng", "password authentication failed"),
        (":s3cret@", "@", "no password given"),
        ("/test_", "/no_", 'database "no_.*" does not exist'),
        (r"$", "?sslmode=bogus", "invalid sslmode value"),
        (r"$", "?sslmode=require", "SSL was required"),
        (r":\d+/", ":99999999/", "invalid port number"),
    ],
)
def test_what_a_server_refuses_is_not_waited_for_and_no_password_is_shown(
    postgresql_url: str, right: str, wrong: str, reason: str
) -> None:
    started = time.monotonic()
    with waiting(60.0), pytest.raises(StorageError, match=reason) as caught:
        open_storage(re.sub(right, wrong, postgresql_url, count=1))
    assert time.monotonic() - started < 30
    assert not {"s3cret", "wr0ng"} & set(re.findall(r"\w+", str(caught.value)))


_CLAIM = """
import sys
import contextlib
import warnings
from optuna.trial import TrialState
from scalesearch.search.queue.storage import open_storage
from scalesearch.search.queue.stored_study import QueueEmpty, StoredStudy
warnings.simplefilter("ignore")  # `ask` starts no heartbeat
study = StoredStudy(open_storage(sys.argv[1]), "claims")
print("ready", flush=True)
sys.stdin.readline()
while study.get_trials(states=(TrialState.WAITING,)):
    with contextlib.suppress(QueueEmpty):
        print(study.ask().number)
"""


@pytest.mark.long
@pytest.mark.slow
def test_four_processes_claim_each_trial_once(storage_url: str) -> None:
    """SQLite has no SELECT … FOR UPDATE: with Optuna alone a fifth of these trials is claimed twice."""
    study = optuna.create_study(storage=open_storage(storage_url), study_name="claims")
    for index in range(40):
        study.add_trial(
            optuna.create_trial(
                state=TrialState.WAITING, params={"x": index / 40}, distributions={"x": FloatDistribution(0.0, 1.0)}
            )
        )
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


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_who_only_reads_or_joins_makes_no_file(tmp_path: Path, options: Any) -> None:
    with pytest.raises(StorageError, match="there is no storage sqlite:///"):
        open_storage(sqlite_url(tmp_path), **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_who_only_reads_or_joins_creates_no_tables(tmp_path: Path, options: Any) -> None:
    (tmp_path / "study.db").touch()
    with waiting(60.0), pytest.raises(StorageError, match="holds no study: `scalesearch init` or `run` makes one"):
        open_storage(sqlite_url(tmp_path), **options)
    assert (tmp_path / "study.db").stat().st_size == 0


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
    work(study, config, plan, evaluate)
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


def test_a_claim_takes_the_first_trial_that_no_other_worker_took_since_the_look(storage_url: str) -> None:
    config = planted_study(design={"degree": 1})
    study = studies.open_study(open_storage(storage_url), config, "digest")
    other = studies.join_study(open_storage(storage_url), config.name)
    studies.enqueue_missing(study, make_plan(config).trials)
    study.get_trials(deepcopy=False)
    assert claim(other).number == 0
    statements = reads_of(study)
    assert claim(study).number == 1
    assert not any("WHERE trials.study_id" in statement and "state" in statement for statement in statements)  # no list
    ended = claim(other)
    other.tell(ended, 1.0)
    with pytest.raises(QueueEmpty):
        claim(study)
    assert len(study.trials) == 3


def test_a_worker_that_claims_does_not_read_what_others_have_trained(tmp_path: Path) -> None:
    """Of N workers each would read N trials for one of its own."""
    config = planted_study(design={"degree": 2})
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    other = studies.join_study(open_storage(sqlite_url(tmp_path)), config.name)
    studies.enqueue_missing(study, make_plan(config).trials)
    done, runs = claim(other), claim(other)
    study.get_trials(deepcopy=False)
    other.tell(done, 1.0)
    statements = reads_of(study)
    trials = study.trials_to_claim()
    waiting = [TrialState.WAITING] * (len(trials) - 2)
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.RUNNING, *waiting]
    assert not any("WHERE trials.trial_id = ?" in statement for statement in statements)  # none by itself
    assert claim(study).number == 2

    # All others: once there is nothing to claim, or who asks for them.
    assert [trial.state for trial in study.trials[:2]] == [TrialState.COMPLETE, TrialState.RUNNING]
    other.storage.set_trial_state_values(other.id_of(runs.number), TrialState.WAITING)
    assert study.trials_to_claim()[1].state == TrialState.FAIL
    while study.trials_to_claim()[-1].state == TrialState.WAITING:
        claim(study)
    assert study.trials_to_claim()[1].state == TrialState.WAITING
    assert claim(study).number == 1


def reads_of(study: StoredStudy) -> list[str]:
    """The SELECT statements from now on."""
    statements: list[str] = []

    @event.listens_for(study.storage.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append(" ".join(statement.partition("FROM")[2].split()))

    return statements


def test_a_trial_queued_after_the_look_can_be_claimed(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    study.get_trials(deepcopy=False)
    studies.enqueue_missing(study, make_plan(config).trials)
    assert is_planned(claim(study))


def test_a_look_reads_what_may_have_changed_and_shows_what_optuna_shows(storage_url: str) -> None:
    config = planted_study(design={"degree": 2})
    study = studies.open_study(open_storage(storage_url), config, "digest")
    other = studies.join_study(open_storage(storage_url), config.name)
    plan = make_plan(config).trials
    studies.enqueue_missing(study, plan[:-1])
    first = study.get_trials(deepcopy=False)
    done, failed, runs = claim(other), claim(other), claim(other)
    other.tell(done, 1.0)
    other.tell(failed, state=TrialState.FAIL)
    runs.set_user_attr("note", "before")
    studies.enqueue_missing(other, plan[-1:])
    trials = study.get_trials(deepcopy=False)
    assert trials == optuna.load_study(study_name=config.name, storage=open_storage(storage_url)).trials
    running, waiting = TrialState.RUNNING, TrialState.WAITING
    states = [TrialState.COMPLETE, TrialState.FAIL, running, *[waiting] * (len(plan) - 3)]
    assert [trial.state for trial in trials] == states
    assert (trials[0].value, trials[2].user_attrs["note"]) == (1.0, "before")
    kept = [trial.number for trial in trials if any(trial is old for old in first)]
    assert kept == list(range(3, len(first)))  # neither read again nor copied
    runs.set_user_attr("note", "after")
    assert study.get_trials(deepcopy=False)[2].user_attrs["note"] == "after"
    assert [trial.number for trial in study.get_trials(states=(waiting,))] == list(range(3, len(plan)))
    copied = study.trials
    copied[0].user_attrs.clear()
    assert study.trials[0].user_attrs
    runs.set_user_attr("note", "last")
    other.tell(runs, 2.0)
    assert study.trials == optuna.load_study(study_name=config.name, storage=open_storage(storage_url)).trials


def test_a_claimed_trial_has_what_it_was_queued_with_and_is_refused_where_others_gave_it_up(storage_url: str) -> None:
    config = planted_study(design={"degree": 1})
    study = studies.open_study(open_storage(storage_url), config, "digest")
    other = studies.join_study(open_storage(storage_url), config.name)
    studies.enqueue_missing(study, make_plan(config).trials)
    queued = study.get_trials()[0]
    trial = claim(study)
    assert (trial.user_attrs, trial.params, trial.distributions) == (
        queued.user_attrs,
        queued.params,
        queued.distributions,
    )
    assert other.trials[0].state == TrialState.RUNNING
    trial.report(2.0, step=1)
    study.tell(trial, state=TrialState.PRUNED)
    assert (other.trials[0].state, other.trials[0].value) == (TrialState.PRUNED, 2.0)

    trial = claim(study)
    other.tell(trial.number, state=TrialState.FAIL)  # as a worker that gives this one up for dead
    with pytest.raises((UpdateFinishedTrialError, ValueError)):
        study.tell(trial, 1.0)
    assert study.trials[trial.number].state == TrialState.FAIL


def cut_connections(url: str) -> None:
    """Ends all connections to a server's database, as its restart does."""
    other = create_engine(url)
    with other.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.dispose()


def test_a_connection_that_broke_while_it_was_idle_is_replaced(postgresql_url: str) -> None:
    """As after a restart of the server during a training."""
    opened = open_storage(postgresql_url)
    assert study_names(opened) == []
    for _ in range(3):
        cut_connections(postgresql_url)
        assert study_names(opened) == []


@pytest.mark.parametrize("moment", ["before_cursor_execute", "commit"])
def test_a_connection_that_breaks_at_any_moment_of_a_call_is_replaced(postgresql_url: str, moment: str) -> None:
    opened = open_storage(postgresql_url)
    study = optuna.create_study(storage=opened, study_name="cut")
    trial = study.ask()
    cuts = 0

    def cut(*_: object) -> None:
        nonlocal cuts
        if cuts < 2:  # the second attempt fails as well
            cuts += 1
            cut_connections(postgresql_url)

    event.listen(opened.engine, moment, cut)
    try:
        with waiting(60.0), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial.set_user_attr("key", 1)
            study.tell(trial, 1.0)
    finally:
        event.remove(opened.engine, moment, cut)
    assert cuts == 2
    assert (study.trials[0].user_attrs, study.trials[0].value) == ({"key": 1}, 1.0)


@pytest.mark.postgresql
def test_a_server_that_takes_no_writes_is_waited_for(postgresql_url: str) -> None:
    """As one that is not the primary any more."""
    opened = open_storage(postgresql_url)
    study = optuna.create_study(storage=opened, study_name="read")
    attempts = 0

    def begin(connection: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    event.listen(opened.engine, "begin", begin)
    with pytest.warns(UserWarning, match="storage") as notes, waiting(60.0):
        study.set_user_attr("key", 1)
    assert study.user_attrs == {"key": 1}
    assert "in a read-only transaction" in str(notes[0].message)


@pytest.mark.postgresql
def test_a_server_that_does_not_answer_is_noticed_and_the_url_says_how_soon(postgresql_url: str) -> None:
    """Else a call would wait for hours after a network is cut. What is set is read where libpq holds it."""
    opened = open_storage(f"{postgresql_url}?connect_timeout=7")
    with opened.engine.connect() as connection:
        held = connection.connection.dbapi_connection.info.get_parameters()
    names = ("connect_timeout", "tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count")
    assert [held[name] for name in names] == ["7", "30000", "30", "10", "3"]


def test_a_locked_database_is_waited_for_and_that_is_said(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(sqlite_url(tmp_path)), study_name="read")
    with sqlite3.connect(tmp_path / "study.db", isolation_level=None, check_same_thread=False) as writer:
        writer.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(7.5, writer.execute, ["ROLLBACK"])
        timer.start()
        with pytest.warns(UserWarning, match="storage") as notes, waiting(60.0):
            study.set_user_attr("key", 1)
        timer.join()
    writer.close()
    assert study.user_attrs == {"key": 1}
    said = [str(note.message) for note in notes]
    assert len(said) == 2
    assert said[0] == f"waiting up to 1 min for the storage sqlite:///{tmp_path}/study.db: database is locked"
    assert re.fullmatch(rf"the storage sqlite:///{tmp_path}/study.db is back after \d+ s", said[1])


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_database_that_is_gone_is_not_waited_for(tmp_path: Path, is_connected: bool) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    study = optuna.create_study(storage=storage, study_name="read")
    if not is_connected:
        storage.remove_session()
        storage.engine.dispose()
    shutil.rmtree(tmp_path)
    with waiting(60.0), pytest.raises(StorageError, match="was removed while it was used"):
        study.set_user_attr("key", 1)


def test_a_study_that_is_removed_while_it_is_used_is_said_to_be(tmp_path: Path) -> None:
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), planted_study(), "digest")
    studies.enqueue_missing(study, make_plan(planted_study()).trials)
    study.get_trials(deepcopy=False)
    optuna.delete_study(study_name=study.study_name, storage=open_storage(sqlite_url(tmp_path)))
    with pytest.raises(StorageError, match="the study was removed from sqlite:.* while it was used"):
        claim(study)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.02)
    calls: list[float] = []

    def fail() -> None:
        calls.append(time.monotonic())
        raise OperationalError("SELECT 1", {}, Exception("the server is away"))

    note = "waiting up to 2 s for the storage x: the server is away"
    with pytest.warns(UserWarning, match=note), waiting(2.0), pytest.raises(OperationalError):
        patiently(fail, lambda error: True, "x")
    assert 2.0 <= calls[-1] - calls[0] < 4.0
    assert 5 < len(calls) < 20  # each pause is twice the one before
    calls.clear()
    with pytest.raises(OperationalError):
        patiently(fail, lambda error: True, "x")
    assert len(calls) == 2  # outside of the context: once more, on a new connection


def test_an_interrupt_ends_the_wait() -> None:
    def fail() -> None:
        interrupts.request()
        raise OperationalError("SELECT 1", {}, Exception("the server is away"))

    with (
        pytest.warns(UserWarning, match="waiting up to 2 s"),
        pytest.raises(KeyboardInterrupt),
        interrupts.deferred(""),
        waiting(2.0),
    ):
        patiently(fail, lambda error: True, "x")


@pytest.mark.postgresql
def test_a_worker_keeps_one_connection(postgresql_url: str) -> None:
    """A server takes a hundred."""
    opened = open_storage(postgresql_url)
    with opened.engine.connect(), opened.engine.connect():
        pass
    with opened.engine.connect() as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        last = time.monotonic() + 5
        while connection.execute(text(count)).scalar() != 1:  # the server notices a moment later that one is closed
            assert time.monotonic() < last
            time.sleep(0.05)


@pytest.mark.parametrize("name", ["lr=0.1?v2", "a%20b", "{budget}", "a b#c", "me:secret@host", "größe", ":memory:"])
def test_any_folder_name_holds_a_storage(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    url = sqlite_url(folder)
    study = studies.open_study(open_storage(url), planted_study(), "digest")
    assert [path.name for path in folder.iterdir()] == ["study.db"]
    assert study_names(open_storage(url, read_only=True)) == ["planted"]
    assert hidden(url) == f"sqlite:///{folder}/study.db"
    copy = tmp_path / f"copy of {name}"
    copy.mkdir()
    copy_to_folder(study, copy)
    assert study_names(open_storage(sqlite_url(copy))) == ["planted"]


def test_a_folder_name_that_is_not_utf_8_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^bad.*: the name of a run folder must be UTF-8$"):
        sqlite_url(Path(os.fsdecode(b"bad\xff")))


def test_a_url_may_hold_braces(tmp_path: Path) -> None:
    """Optuna formats it."""
    (tmp_path / "{budget}").mkdir()
    open_storage(f"sqlite:///{tmp_path}/{{budget}}/study.db")
    assert (tmp_path / "{budget}" / "study.db").exists()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?cache=shared&uri=true",
        "sqlite:///file:name?mode=memory&uri=true",
    ],
)
def test_a_storage_in_memory_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="is in memory, which other processes cannot access") as caught:
        open_storage(url)
    assert "\n" not in str(caught.value)
