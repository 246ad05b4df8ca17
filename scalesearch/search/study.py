"""The Optuna study: storage, fingerprint, and the queue of planned trials."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from scalesearch.config import StudyConfig, parse_study
from scalesearch.records import TrialRecord, record_from_json
from scalesearch.search.design import PlannedTrial

# A worker that has not said that it lives for a minute is dead: its trial goes back to the queue.
HEARTBEAT_SECONDS = 15
GRACE_SECONDS = 60
MAX_RETRIES = 3

_SQLITE: dict[str, Any] = {"connect_args": {"timeout": 60}}
_SERVER: dict[str, Any] = {"pool_pre_ping": True}

_STUDY, _FINGERPRINT, _DATA = "study", "fingerprint", "data_digest"
_INDEX, _RECORD = "planned_index", "record"


class StudyMismatch(Exception):
    """The stored study was made with other settings; the message names what differs."""


class StorageError(Exception):
    """The storage cannot be opened, or holds no such study."""


def open_storage(url: str) -> RDBStorage:
    """The storage at an SQLAlchemy URL, with heartbeats and the retry of stale trials. Raises `StorageError`."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # progress and errors are told by the command line
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url,
                engine_kwargs={"connect_args": {"timeout": 60}}
                if url.startswith("sqlite")
                else {"pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
            )
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ImportError) as error:
        raise StorageError(
            f"the storage URL {hidden(url)} cannot be used ({_brief(error)}); "
            "for example sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        ) from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise StorageError(f"the storage {hidden(url)} cannot be opened ({_brief(error)})") from error


def hidden(url: str) -> str:
    """The URL without its password."""
    head, separator, tail = url.partition("://")
    login, at, rest = tail.rpartition("@")
    return f"{head}{separator}{login.partition(':')[0]}{at}{rest}"


def _brief(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def sqlite_url(folder: Path) -> str:
    """The storage of a run folder."""
    return f"sqlite:///{(folder / 'study.db').as_posix()}"


def fingerprint(config: StudyConfig, data_digest: str) -> dict[str, Any]:
    """All that changes results, flat: the study's settings, the baseline and rounding they resolve to, the data."""
    settings = {
        key: value for key, value in config.identity().items() if not key.startswith(("baseline.", "rounding."))
    }
    settings["data.source"] = config.data.source.partition(":")[0]
    baseline = config.resolved_baseline()
    for name in ("width_divisor", "depth", "resolution_step", "stem", "head"):
        settings[f"rounding.{name}"] = getattr(baseline.rounding, name)
    spec = baseline.spec.to_json()
    settings |= {f"baseline.{key}": json.dumps(value) for key, value in spec.items()}
    return {**settings, "data.digest": data_digest}


def open_study(storage: RDBStorage, config: StudyConfig, data_digest: str) -> optuna.Study:
    """The stored study of this name, made now where there is none.

    Raises `StudyMismatch` where it was made with other settings or data.
    """
    wanted = fingerprint(config, data_digest)
    if config.name in study_names(storage):
        study = join_study(storage, config.name)
        stored: Mapping[str, Any] = study.user_attrs[_FINGERPRINT]
        changed = [key for key in sorted({*stored, *wanted}) if stored.get(key) != wanted.get(key)]
        if changed:
            told = ", ".join(
                f"`{key}` was {_short(stored.get(key))}, now {_short(wanted.get(key))}" for key in changed[:4]
            )
            more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
            raise StudyMismatch(
                f"the study {config.name!r} in {hidden(storage.url)} was made with other settings: {told}; "
                "use another --out (or study name), or the same settings"
            )
        return study
    direction = "minimize" if config.metric == "val_loss" else "maximize"
    study = optuna.create_study(storage=storage, study_name=config.name, direction=direction, sampler=_sampler(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([config.metric])
    study.set_user_attr(_STUDY, config.model_dump(mode="json"))
    study.set_user_attr(_DATA, data_digest)
    study.set_user_attr(_FINGERPRINT, wanted)
    return study


def study_names(storage: RDBStorage) -> list[str]:
    """The names of all studies in a storage."""
    return sorted(optuna.get_all_study_names(storage))


def join_study(storage: RDBStorage, name: str) -> optuna.Study:
    """The stored study called `name`. Raises `StorageError` where there is none, or another tool's."""
    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        raise StorageError(
            f"no study called {name!r} in {hidden(storage.url)}; there: {', '.join(study_names(storage)) or 'none'}"
        ) from None
    if not {_STUDY, _FINGERPRINT, _DATA} <= study.user_attrs.keys():
        raise StorageError(f"the study {name!r} in {hidden(storage.url)} was not made by scalesearch")
    study.sampler = _sampler(config_of(study))
    return study


def _short(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _sampler(config: StudyConfig) -> optuna.samplers.BaseSampler:
    if config.design.kind == "tpe":
        startup = max(4, config.design.size // 3)
        return optuna.samplers.TPESampler(n_startup_trials=startup, seed=config.design.seed, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=0)  # never asked: every trial of a planned design is enqueued


def config_of(study: optuna.Study) -> StudyConfig:
    """The settings that the study was made with."""
    return parse_study(study.user_attrs[_STUDY], f"study {study.study_name}")


def fingerprint_of(study: optuna.Study) -> Mapping[str, Any]:
    """The fingerprint that the study was made with."""
    return dict(study.user_attrs[_FINGERPRINT])


def data_digest(study: optuna.Study) -> str:
    """Digest of the data and split that the study was made with."""
    return str(study.user_attrs[_DATA])


def enqueue_missing(study: optuna.Study, planned: Sequence[PlannedTrial]) -> int:
    """Enqueue each planned trial that is not queued, running, complete, or failed for a recorded reason."""
    settled = {
        index
        for trial in study.get_trials(deepcopy=False)
        if (index := planned_index(trial)) is not None and (not trial.state.is_finished() or has_record(trial))
    }
    missing = [index for index in range(len(planned)) if index not in settled]
    for index in missing:
        enqueue(study, index, planned[index])
    return len(missing)


def enqueue(study: optuna.Study, index: int, planned: PlannedTrial) -> None:
    """Queue one planned trial at the realised shares of its candidate."""
    shares = planned.candidate.shares
    study.enqueue_trial(
        {"depth_share": shares.depth_share, "width_fraction": shares.width_fraction}, user_attrs={_INDEX: index}
    )


def planned_index(trial: FrozenTrial | optuna.Trial) -> int | None:
    """Which planned trial this is; None for one that a sampler proposed."""
    return trial.user_attrs.get(_INDEX)


def has_record(trial: FrozenTrial) -> bool:
    """Whether the trial ended with a record: complete, or failed for a reason that would come again."""
    return _RECORD in trial.user_attrs and trial.state.is_finished()


def set_record(trial: optuna.Trial, document: Mapping[str, Any]) -> None:
    """Store a record's JSON, and beside it what the dashboard should show as attributes of its own."""
    candidate = document["candidate"]
    for key in ("alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations"):
        trial.set_user_attr(key, candidate[key])
    trial.set_user_attr("shares", candidate["shares"])
    trial.set_user_attr("resolution", candidate["spec"]["resolution"])
    if document["failure"]:
        trial.set_user_attr("failure", document["failure"])
    trial.set_user_attr(_RECORD, document)


def record_of(trial: FrozenTrial) -> TrialRecord:
    """The record of a trial that has one."""
    return record_from_json(trial.user_attrs[_RECORD])


def records(study: optuna.Study) -> tuple[TrialRecord, ...]:
    """Records of all finished trials, in their order."""
    return tuple(record_of(trial) for trial in study.get_trials(deepcopy=False) if has_record(trial))


def count_states(study: optuna.Study) -> dict[str, int]:
    """How many trials are `waiting`, `running`, `complete`, or `failed` for a recorded reason."""
    trials = study.get_trials(deepcopy=False)
    return {
        "waiting": sum(trial.state == TrialState.WAITING for trial in trials),
        "running": sum(trial.state == TrialState.RUNNING for trial in trials),
        "complete": sum(trial.state == TrialState.COMPLETE for trial in trials),
        "failed": sum(trial.state == TrialState.FAIL and has_record(trial) for trial in trials),
    }


def copy_to_folder(study: optuna.Study, folder: Path) -> None:
    """Copy a study from a server into the run folder's own SQLite file, replacing an older copy."""
    target = open_storage(sqlite_url(folder))
    if study.study_name in study_names(target):
        optuna.delete_study(study_name=study.study_name, storage=target)
    optuna.copy_study(from_study_name=study.study_name, from_storage=study._storage, to_storage=target)
