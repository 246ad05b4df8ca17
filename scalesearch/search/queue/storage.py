"""Storages: an SQLAlchemy URL opened with heartbeats, the retry of stale trials, and one taker for each trial."""

from __future__ import annotations

import math
import shutil
import time
import warnings
import weakref
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from scalesearch.errors import StorageError
from scalesearch.runtime.doctor import Finding
from scalesearch.runtime.files import write_whole
from scalesearch.runtime.text import first_line

Storage = RDBStorage

# A worker that has not said that it lives for a minute is dead: its trial goes back to the queue.
HEARTBEAT_SECONDS = 15
GRACE_SECONDS = 60
MAX_RETRIES = 3
# A connection unused for so long is tried before it is used again.
REST_SECONDS = 1.0
# How long a process waits for the others that write to the same SQLite file.
_LOCK_SECONDS = 60


def open_storage(url: str, *, read_only: bool = False) -> RDBStorage:
    """The storage at an SQLAlchemy URL. Raises `StorageError`.

    A storage opened `read_only` asks for no lock: claim no trials through it.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # progress and errors are told by the command line
    sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": _LOCK_SECONDS}} if sqlite else {"pool_pre_ping": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
            )
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        hint = "; pip install 'scalesearch[postgresql]' brings it" if "psycopg" in str(error.__cause__ or error) else ""
        reason = "not an SQLAlchemy URL" if isinstance(error, ValueError) else first_line(error)
        raise StorageError(
            f"the storage URL {hidden(url)} cannot be used ({reason}{hint}); "
            "for example sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        ) from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise StorageError(f"the storage {hidden(url)} cannot be opened ({first_line(error)})") from error
    if not sqlite:
        _ping_after_a_rest(storage.engine)
    elif not read_only:
        _take_turns(storage.engine)
    weakref.finalize(storage, storage.engine.dispose)  # the storage has no close of its own
    return storage


def _take_turns(engine: Engine) -> None:
    """Begin each SQLite transaction with its write lock.

    Optuna claims a trial by reading its state and then writing it; SQLite has no SELECT … FOR UPDATE, so two
    processes would both read "waiting" and both claim it.
    """

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections made before the listeners


def _ping_after_a_rest(engine: Engine) -> None:
    """Try a connection that rested before it is used again, and open others where it is broken.

    A server may have gone and come back during a long training. SQLAlchemy's own `pool_pre_ping` asks before each
    transaction, of which a trial has several in a row. The clock is one that goes on while the machine sleeps.
    """

    @event.listens_for(engine, "checkin")
    def note(connection: Any, record: ConnectionPoolEntry) -> None:
        del connection
        record.info["used"] = time.time()

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        del proxy
        if not 0 <= time.time() - record.info.get("used", -math.inf) <= REST_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise InvalidatePoolError from error


def start_clock(study: optuna.Study, started: set[int]) -> None:
    """Give each running trial that is not yet in `started` a heartbeat, once, and add it.

    A worker that died between its claim and its first heartbeat would otherwise hold its trial for ever: Optuna
    calls no trial stale that never had one. For a worker that lives it changes nothing.
    """
    backend: Any = getattr(study._storage, "_backend", study._storage)  # behind Optuna's cache
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number not in started:
            started.add(trial.number)
            backend.record_heartbeat(trial._trial_id)


def hidden(url: str) -> str:
    """The URL without its password, and without its query, which may hold one."""
    head, separator, tail = url.partition("://")
    if not separator:
        return repr(url.rpartition("@")[2])
    login, at, rest = tail.rpartition("@")
    return f"{head}{separator}{login.partition(':')[0]}{at}{rest.partition('?')[0]}"


def sqlite_url(folder: Path) -> str:
    """The storage of a run folder."""
    return f"sqlite:///{(folder / 'study.db').as_posix()}"


def study_names(storage: RDBStorage) -> list[str]:
    """The names of all studies in a storage."""
    return sorted(optuna.get_all_study_names(storage))


def examine_storage(url: str) -> Finding:
    """Whether the storage can be read, as a line for `doctor`."""
    try:
        names = study_names(open_storage(url, read_only=True))
    except StorageError as error:
        return Finding("storage", str(error), good=False)
    return Finding("storage", f"{hidden(url)}: {len(names)} studies", good=True)


def copy_to_folder(study: optuna.Study, folder: Path) -> None:
    """Copy a study from a server into the run folder's own SQLite file, replacing an older copy.

    Trials that run are left out: no worker would ever finish the copy.
    """
    path = folder / "study.db"
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.RUNNING]

    def fill(temporary: Path) -> None:
        if path.exists():
            shutil.copyfile(path, temporary)
        target = open_storage(f"sqlite:///{temporary.as_posix()}")
        if study.study_name in study_names(target):
            optuna.delete_study(study_name=study.study_name, storage=target)
        copy = optuna.create_study(storage=target, study_name=study.study_name, directions=study.directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            copy.set_metric_names(study.metric_names or [])
        for key, value in study.user_attrs.items():
            copy.set_user_attr(key, value)
        copy.add_trials(trials)
        target.engine.dispose()

    write_whole(path, fill)
