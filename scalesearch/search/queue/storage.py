"""Storages: open an SQLAlchemy URL, let one worker claim each trial, and report what fails as one kind of error."""

from __future__ import annotations

import contextlib
import shutil
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import URL, Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from scalesearch.errors import InputError, StorageError
from scalesearch.runtime.doctor import Finding
from scalesearch.runtime.files import write_whole
from scalesearch.runtime.text import first_line, plural
from scalesearch.search.queue.patience import PatientStorage, exists, is_refused, may_pass, patiently, reason_of
from scalesearch.search.queue.storage_url import hidden, storage_url

Storage = PatientStorage

# How long SQLite itself waits for another process that writes; calls are repeated after that (`patience.waiting`).
_LOCK_SECONDS = 3
# A connection to a server that does not answer within so many seconds is broken, though nobody closed it.
_ANSWER_SECONDS = 30


class NoStudies(StorageError):
    """A storage that could be used, but nobody has made a study in it."""


def open_storage(url: str, *, read_only: bool = False, create: bool = True) -> Storage:
    """Open the storage at an SQLAlchemy URL.

    Args:
        url: `sqlite:///FILE` (see `sqlite_url`), `postgresql+psycopg://USER@HOST/DATABASE`, or what else `storage_url`
            takes.
        read_only: take no write lock on SQLite and create nothing. Do not claim trials through such a storage.
        create: create Optuna's tables where they are missing.

    Raises:
        StorageError: the URL cannot be used, is in memory, or the storage cannot be opened.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     study_names(open_storage(sqlite_url(Path(folder))))
        []
    """
    url = storage_url(url)
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # progress and errors are reported elsewhere
    try:
        parsed = make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        if is_sqlite and _in_memory(parsed):
            raise StorageError(
                f"the storage {url} is in memory, which other processes cannot access; use sqlite:///FILE"
            )
        if is_sqlite and (read_only or not create) and not exists(parsed):
            missing = f"there is no storage {hidden(url)}"  # to connect to it would make the file
            raise NoStudies(missing) if _has_folder(parsed) else StorageError(missing)

        def connect() -> RDBStorage:
            return RDBStorage(
                url.replace("{", "{{").replace("}", "}}"),  # Optuna formats it
                engine_kwargs=_engine_arguments(parsed),
                skip_table_creation=read_only or not create,
            )

        stored = patiently(connect, lambda error: may_pass(error, parsed) and not is_refused(error), hidden(url))
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        is_ours = str(error.__cause__ or error) == "No module named 'psycopg'"
        hint = "; pip install 'scalesearch[postgresql]' brings it" if is_ours else ""
        reason = "not an SQLAlchemy URL" if isinstance(error, ValueError) else first_line(error)
        raise StorageError(
            f"the storage URL {hidden(url)} cannot be used ({reason}{hint}); "
            "for example sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        ) from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        if "version_info" in reason_of(error):  # the first of Optuna's tables that is read
            raise NoStudies(f"{hidden(url)} holds no study: `scalesearch init` or `run` makes one") from error
        reason = reason_of(error)
        if "no password supplied" in reason:
            reason = "no password given, and the password file has none for this host, database and role"
        raise StorageError(f"the storage {hidden(url)} cannot be opened ({reason})") from error
    if is_sqlite and not read_only:
        _begin_immediate(stored.engine)
    storage = PatientStorage(stored, hidden(url))  # type: ignore[abstract]  # its methods are made in a loop
    weakref.finalize(storage, stored.engine.dispose)  # Optuna's storage has no `close`
    return storage


def _engine_arguments(url: URL) -> dict[str, Any]:
    """What an engine needs to notice, soon, that a file is locked or a server is away, and to spare connections."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _LOCK_SECONDS}}
    if url.get_backend_name() == "postgresql":  # libpq's own names; those of the URL win
        ours = {
            "connect_timeout": _ANSWER_SECONDS // 2,
            "tcp_user_timeout": 1000 * _ANSWER_SECONDS,
            "keepalives_idle": _ANSWER_SECONDS,  # for an answer that never comes
            "keepalives_interval": _ANSWER_SECONDS // 3,
            "keepalives_count": 3,
        }
        # A server takes 100 connections unless it says otherwise: a worker keeps one, and its signs of life pass.
        return {"connect_args": {key: value for key, value in ours.items() if key not in url.query}, "pool_size": 1}
    return {}


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what Optuna and SQLAlchemy raise while a storage is used into `StorageError`; also a decorator.

    Every function that the rooms above call is decorated with it, so errors of these libraries never leave this room.

    Example:
        >>> with storage_errors():
        ...     raise StorageInternalError("disk I/O error")
        Traceback (most recent call last):
        scalesearch.errors.StorageError: the storage failed while it was used (disk I/O error); run the same command \
again to resume
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        reason = reason_of(error)
        if "no such table" in reason:
            raise StorageError(f"the storage is damaged ({reason})") from error
        raise StorageError(
            f"the storage failed while it was used ({reason}); run the same command again to resume"
        ) from error


def _in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:", "file::memory:") or url.query.get("mode") == "memory"


def _has_folder(url: URL) -> bool:
    try:
        return Path(url.database or "").parent.is_dir()
    except (OSError, ValueError):  # such a name cannot exist
        return False


def _begin_immediate(engine: Engine) -> None:
    """Begin each SQLite transaction with its write lock.

    Optuna claims a trial by reading its state and then writing it. SQLite has no SELECT … FOR UPDATE, so two processes
    would both read "waiting" and both claim it.
    """

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections made before the listeners


def sqlite_url(folder: Path) -> str:
    """The URL of a run folder's own storage. Any folder name is quoted as it must be.

    Raises `InputError` for a name that is not UTF-8, which no URL can hold.

    Example:
        >>> sqlite_url(Path("runs/lr=0.1?"))
        'sqlite:///runs/lr%3D0.1%3F/study.db'
    """
    return _file_url(folder / "study.db")


def _file_url(path: Path) -> str:
    # `create` quotes all but letters, digits, "_", ".", "-" and "/"; Optuna takes a string only.
    try:
        return URL.create("sqlite", database=path.as_posix()).render_as_string()
    except UnicodeEncodeError:
        raise InputError(f"{path.parent}: the name of a run folder must be UTF-8") from None


@storage_errors()
def study_names(storage: Storage) -> list[str]:
    """The names of all studies in a storage, sorted."""
    return sorted(optuna.get_all_study_names(storage))


def examine_storage(url: str) -> Finding:
    """Whether the storage can be read, as a line for `doctor`."""
    try:
        names = study_names(open_storage(url, read_only=True))
    except NoStudies as error:
        return Finding("storage", str(error), good=True)
    except StorageError as error:
        return Finding("storage", str(error), good=False)
    return Finding("storage", f"{hidden(url)}: {plural(len(names), 'study', 'studies')}", good=True)


@storage_errors()
def copy_to_folder(optuna_study: optuna.Study, folder: Path) -> None:
    """Copy a study from a server into the run folder's SQLite file; replaces an older copy.

    Running trials are left out: no worker would ever finish them in the copy.
    """
    path = folder / "study.db"
    trials = [trial for trial in optuna_study.get_trials(deepcopy=False) if trial.state != TrialState.RUNNING]

    def fill(temporary: Path) -> None:
        # Other studies in the file stay.
        if path.exists():
            shutil.copyfile(path, temporary)
        target = open_storage(_file_url(temporary))
        if optuna_study.study_name in study_names(target):
            optuna.delete_study(study_name=optuna_study.study_name, storage=target)

        # The study, then its trials.
        copy = optuna.create_study(
            storage=target, study_name=optuna_study.study_name, directions=optuna_study.directions
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            copy.set_metric_names(optuna_study.metric_names or [])
        for key, value in optuna_study.user_attrs.items():
            copy.set_user_attr(key, value)
        copy.add_trials(trials)
        target.engine.dispose()

    write_whole(path, fill)
