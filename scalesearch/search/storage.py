"""Storages: an SQLAlchemy URL opened with heartbeats, the retry of stale trials, and one taker for each trial."""

from __future__ import annotations

import copy
import math
import shutil
import time
import warnings
import weakref
from collections.abc import Container, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, _CachedStorage
from optuna.storages._cached_storage import _StudyInfo
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from scalesearch.files import write_whole

Storage = RDBStorage

# A worker that has not said that it lives for a minute is dead: its trial goes back to the queue.
HEARTBEAT_SECONDS = 15
GRACE_SECONDS = 60
MAX_RETRIES = 3
# Whether a worker died is asked at most so often.
STALE_SECONDS = 1.0
# A connection unused for so long is tried before it is used again.
REST_SECONDS = 1.0
# How long a process waits for the others that write to the same SQLite file.
_LOCK_SECONDS = 60


class StorageError(Exception):
    """The storage cannot be opened or used, or holds no such study."""


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
        reason = "not an SQLAlchemy URL" if isinstance(error, ValueError) else brief(error)
        raise StorageError(
            f"the storage URL {hidden(url)} cannot be used ({reason}{hint}); "
            "for example sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        ) from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise StorageError(f"the storage {hidden(url)} cannot be opened ({brief(error)})") from error
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


class OneLook(_CachedStorage):
    """Optuna's cache of a storage, without what it would read twice.

    A trial that waits is as it was queued: of those a look reads which ones still wait, where Optuna reads all that
    they hold. A claim goes by the look at all trials that came right before it: Optuna looks once more to find one
    that waits, which a worker has just done. The storage refuses a trial that another worker claimed in between, and
    Optuna goes on to the next. What the claimed trial holds is known then, and what its worker adds; where another one
    has given it up for dead, the storage refuses that. Whether a worker died is not asked before each of many short
    trials.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._looked: int | None = None  # the study whose trials were read since, and are good for a claim
        self._claimed: FrozenTrial | None = None  # the trial that was claimed here, while its copy is exact
        self._in_order: dict[int, list[FrozenTrial]] = {}  # of each study, by their numbers
        self._asked = -math.inf  # when it was asked who died, by `time.monotonic`

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """A further trial, which no look has shown."""
        self._looked = None
        return super().create_new_trial(study_id, template_trial)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials of a study, in their order."""
        looked, self._looked = self._looked, None
        if states == (TrialState.WAITING,) and looked == study_id and not deepcopy:
            return self._queued(study_id)
        if states is not None:
            return super().get_all_trials(study_id, deepcopy, states)
        self._read_trials_from_remote_storage(study_id)
        self._looked = study_id
        trials = self._in_order[study_id]
        return copy.deepcopy(trials) if deepcopy else list(trials)

    def delete_study(self, study_id: int) -> None:
        """The study and its trials; a later study may have its key."""
        self._in_order.pop(study_id, None)
        super().delete_study(study_id)

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        with self._lock:
            study = self._studies.setdefault(study_id, _StudyInfo())
            in_order = self._in_order.setdefault(study_id, [])
            queued = {trial._trial_id for trial in self._queued(study_id)}
            changed = study.unfinished_trial_ids - self._waiting(study_id, queued)
            known = max((study.last_finished_trial_id, *study.unfinished_trial_ids))
            trials = self._backend._get_trials(study_id, None, changed, known)
            self._add_trials_to_cache(study_id, trials)
            for trial in trials:  # by ascending keys, hence numbers, which have no gaps
                in_order[trial.number : trial.number + 1] = [trial]
            finished = {trial._trial_id for trial in trials if trial.state.is_finished()}
            study.unfinished_trial_ids |= {trial._trial_id for trial in trials}
            study.unfinished_trial_ids -= finished
            study.last_finished_trial_id = max((study.last_finished_trial_id, *finished))

    def _queued(self, study_id: int) -> list[FrozenTrial]:
        """The trials that waited at the last look, in their order."""
        keys = self._studies[study_id].unfinished_trial_ids
        numbers = sorted(self._trial_id_to_study_id_and_number[key][1] for key in keys)
        unfinished = map(self._in_order[study_id].__getitem__, numbers)
        return [trial for trial in unfinished if trial.state == TrialState.WAITING]

    def _waiting(self, study_id: int, queued: set[int]) -> set[int]:
        """Which of the trials that were `queued` still wait."""
        if not queued:
            return queued
        wanted = select(TrialModel.trial_id).where(
            TrialModel.study_id == study_id,
            TrialModel.state == TrialState.WAITING,
            TrialModel.trial_id.between(min(queued), max(queued)),
        )
        with self._backend.engine.connect() as connection:
            return queued.intersection(connection.execute(wanted).scalars())

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Whether it was done: a trial is claimed once. Raises `UpdateFinishedTrialError` for one that has ended."""
        self._claimed = None
        done = super().set_trial_state_values(trial_id, state, values)
        if done and state == TrialState.RUNNING and trial_id in self._trial_id_to_study_id_and_number:
            study, number = self._trial_id_to_study_id_and_number[trial_id]
            self._claimed = copy.deepcopy(self._studies[study].trials[number])
            self._claimed.state, self._claimed.datetime_start = state, datetime.now()
        return done

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """What a sampler or a pruner notes, past `optuna.Trial`."""
        self._claimed = None
        super().set_trial_system_attr(trial_id, key, value)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial; of one claimed here the copy in which `optuna.Trial` notes what it writes."""
        own = self._claimed
        return own if own is not None and own._trial_id == trial_id else super().get_trial(trial_id)

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        now = time.monotonic()
        if now < self._asked + STALE_SECONDS:
            return []
        self._asked = now
        return super()._get_stale_trial_ids(study_id)


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


def brief(error: BaseException) -> str:
    """The first line of what an error's first cause said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def sqlite_url(folder: Path) -> str:
    """The storage of a run folder."""
    return f"sqlite:///{(folder / 'study.db').as_posix()}"


def study_names(storage: RDBStorage) -> list[str]:
    """The names of all studies in a storage."""
    return sorted(optuna.get_all_study_names(storage))


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
