"""A storage whose calls wait: for a server that restarts, a network that is cut, a database that is locked or full.

Optuna's storage raises at the first fault, and a trial's work is lost with it. Each call to `PatientStorage` is one
transaction, so it can be tried again as a whole.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import URL, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

from scalesearch.errors import StorageError
from scalesearch.runtime import interrupts
from scalesearch.runtime.text import first_line

PATIENCE_SECONDS = 1800.0
"""How long a search waits for its storage."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two attempts: the pause doubles from the first to the longest. Each is cut by up to a half at random,
so that the workers of a cluster do not all come back at once."""

# SQLite's primary result codes: busy, locked, I/O error, full, cannot open.
_PASSING_CODES = frozenset({5, 6, 10, 13, 14})

# What Optuna and SQLAlchemy raise for a row that does not hold what they wrote: no JSON, another type, another state.
_OF_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError, RecursionError)

# Studies among which a damaged one is looked for.
_MOST_STUDIES = 1000

# What PostgreSQL and libpq say, without an SQLSTATE, of a URL with which no attempt will succeed. Where they speak
# another language, it is waited for like any other fault.
_REFUSALS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "not permitted to log in",
    "permission denied for",
    "SSL was required",
    "invalid sslmode",
    "invalid port",
    "invalid integer value",
    "invalid connection option",
)

# PostgreSQL's SQLSTATE of a write to a server that is not, or no longer, the primary.
_READ_ONLY = "25006"

Result = TypeVar("Result")

_patience = ContextVar("patience", default=0.0)


@contextlib.contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """Within the context, in this thread, calls to a storage that fails wait up to `seconds` until it is back.

    They warn once that they wait, and once that the storage is back. Outside of any such context a call is repeated
    only once, on a new connection.
    """
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)


def patiently(call: Callable[[], Result], may_pass: Callable[[Exception], bool], name: str) -> Result:
    """What `call` returns; repeats it after errors that may pass, as `waiting` says.

    Args:
        call: what to do; a whole transaction.
        may_pass: whether another attempt may succeed after this error.
        name: of the storage, for the warnings.
    """
    patience, pause, started = _patience.get(), FIRST_PAUSE, time.monotonic()
    is_first, has_warned = True, False
    while True:
        try:
            result = call()
        except (StorageInternalError, SQLAlchemyError) as error:
            left = started + patience - time.monotonic()
            if not may_pass(error) or (left <= 0 and not is_first):
                raise
            if is_first:  # the server may only have closed a connection that was idle
                is_first = False
                continue
            if not has_warned:
                limit = f"{patience / 60:.0f} min" if patience >= 60 else f"{patience:.0f} s"
                warnings.warn(f"waiting up to {limit} for the storage {name}: {reason_of(error)}", stacklevel=4)
                has_warned = True
            _sleep(min(pause * random.uniform(0.5, 1.0), left))
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if has_warned:
                away = time.monotonic() - started
                warnings.warn(f"the storage {name} is back after {away:.0f} s", stacklevel=4)
            return result


def _sleep(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        interrupts.check()
        time.sleep(min(left, 0.25))


def reason_of(error: BaseException) -> str:
    """The first line of what the database said; Optuna and SQLAlchemy wrap it."""
    while error.__cause__ is not None and isinstance(error, StorageInternalError):
        error = error.__cause__
    return first_line(getattr(error, "orig", None) or error)


def may_pass(error: Exception, url: URL) -> bool:
    """Whether `error` is of the kind that passes: no connection, a lock, a full disk; not a database that is gone."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, PendingRollbackError):  # the connection broke while an earlier error was rolled back
        return True
    if not isinstance(cause, DBAPIError):
        return False
    if url.get_backend_name() == "sqlite":
        code = getattr(cause.orig, "sqlite_errorcode", -1) & 0xFF
        return code in _PASSING_CODES and exists(url)
    if getattr(cause.orig, "sqlstate", None) == _READ_ONLY:
        return True
    return cause.connection_invalidated or isinstance(cause, OperationalError | InterfaceError)


def is_refused(error: Exception) -> bool:
    """Whether a server was asked for what it does not have, or does not give: the URL is wrong, or the password."""
    reason = reason_of(error)
    return any(refusal in reason for refusal in _REFUSALS)


def exists(url: URL) -> bool:
    """Whether the file of an SQLite URL is there."""
    try:
        return Path(url.database or "").is_file()
    except (OSError, ValueError):  # such a name cannot exist
        return False


class PatientStorage(BaseStorage):
    """Optuna's storage `stored`, each of whose calls waits as `waiting` says. `name` is for messages."""

    def __init__(self, stored: RDBStorage, name: str) -> None:
        self.stored, self.name = stored, name

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine."""
        return self.stored.engine

    def remove_session(self) -> None:
        """Closes the connection of this thread."""
        self.stored.remove_session()


def _patient(name: str) -> Callable[..., Any]:
    def call(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        url = self.stored.engine.url
        method = getattr(self.stored, name)

        def attempt() -> Any:
            try:
                return method(*args, **kwargs)
            except (StorageInternalError, SQLAlchemyError):
                with contextlib.suppress(SQLAlchemyError):  # the next attempt must not get a broken connection
                    self.stored.remove_session()
                raise

        try:
            return patiently(attempt, lambda error: may_pass(error, url), self.name)
        except (StorageInternalError, SQLAlchemyError) as error:
            if url.get_backend_name() == "sqlite" and not exists(url):
                raise StorageError(f"the storage {self.name} was removed while it was used") from error
            raise
        except KeyError as error:
            # There is no such study or trial; or a distribution that Optuna cannot read.
            where = _damaged_part(self, name, *args) if name == "get_all_trials" else ""
            if " trial " in where:
                raise StorageError(f"{self.name} is damaged{where} (no {error})") from error
            if name in ("get_all_trials", "get_trial", "create_new_trial") or name.startswith("set_trial_"):
                raise StorageError(f"the study was removed from {self.name} while it was used") from error
            raise
        except _OF_DAMAGE as error:
            if not name.startswith("get_"):
                raise
            where = _damaged_part(self, name, *args)
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise StorageError(f"{self.name} is damaged{where} ({reason})") from error

    return call


def _damaged_part(storage: PatientStorage, name: str, place: Any = None, *_: object) -> str:
    """The study or the trial whose row Optuna cannot read, as a part of a sentence; empty if it cannot be told.

    Args:
        storage: the storage.
        name: the call that failed.
        place: the study or the trial that it was for, by Optuna's id; None for all studies.
    """
    stored = storage.stored
    with contextlib.suppress(*_OF_DAMAGE, StorageInternalError, SQLAlchemyError):
        if place is None:
            for study_id in range(1, _MOST_STUDIES):
                with contextlib.suppress(KeyError):  # there is none
                    study = f" in the study {stored.get_study_name_from_id(study_id)!r}"
                    try:
                        stored.get_study_user_attrs(study_id)
                    except _OF_DAMAGE:
                        return study
            return ""
        if name.startswith("get_trial"):
            return f" in trial {stored.get_trial_number_from_id(place)}"
        study = f" in the study {stored.get_study_name_from_id(place)!r}"
        if name != "get_all_trials":
            return study
        for number in itertools.count():
            try:
                trial_id = stored.get_trial_id_from_study_id_trial_number(place, number)
            except KeyError:
                return study
            try:
                stored.get_trial(trial_id)
            except _OF_DAMAGE:
                return f" in trial {number} of{study.removeprefix(' in')}"
    return ""


for _name in (*BaseStorage.__abstractmethods__, "get_trial_id_from_study_id_trial_number", "get_best_trial"):
    setattr(PatientStorage, _name, _patient(_name))
abc.update_abstractmethods(PatientStorage)  # type: ignore[type-abstract]  # mypy does not see the loop
