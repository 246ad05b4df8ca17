"""The Optuna study: its fingerprint, the queue of planned trials, and the records of those that have ended."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from scalesearch.errors import InputError, StorageError, StudyMismatch
from scalesearch.results.records import TrialRecord
from scalesearch.runtime.modules import digest_of
from scalesearch.runtime.text import enumerated
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import PlannedTrial
from scalesearch.search.plan.reference import REFERENCE
from scalesearch.search.queue.damage import check_types, has_own_code
from scalesearch.search.queue.earlier_shares import has_earlier_shares, no_further_candidates
from scalesearch.search.queue.extension import extend, extensions_in, refusal
from scalesearch.search.queue.storage import Storage, storage_errors, study_names
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.trials import (
    has_record,
    lacking,
    queued_trial,
    record_of,
    states_of,
    with_records,
)
from scalesearch.study.extent import GROWTH, extent_of, joined, with_extent
from scalesearch.study.load import parse_study
from scalesearch.study.sections import Study

Evaluates = Literal["validation", "test"]
"""The split that judges the trainings of a study. Only those that validate a rule are judged by the test split."""

_CODE = "baseline.code"
"""The key of a fingerprint that holds the digest of the user's own code, if there is any."""

SCHEMA_VERSION = 3
"""How a study is stored. 1: shares read off α, β and γ; 2: shares of real cost; 3: workers hold trials by leases."""

_STUDY, _FINGERPRINT, _DATA, _EVALUATES = "study", "fingerprint", "data_digest", "evaluates"
_SCHEMA, _PARTS = "schema", "parts"
"""The names of the stored studies of one run, in the order in which they are trained; the first is the reference."""


def fingerprint(study: Study, data_digest: str) -> dict[str, Any]:
    """All that changes results, flat: the study's settings, the baseline and rounding they resolve to, the data.

    Also a digest of the user's own code, where the baseline has any.
    """
    settings = {key: value for key, value in study.identity().items() if not key.startswith(("baseline.", "rounding."))}
    settings["data.source"] = study.data.source.partition(":")[0]
    baseline = study.resolved_baseline()
    settings |= {f"rounding.{name}": value for name, value in baseline.rounding.to_json().items()}
    spec = baseline.spec.to_json()
    settings |= {f"baseline.{key}": json.dumps(value) for key, value in spec.items()}
    if files := study.baseline.own_files():
        settings[_CODE] = digest_of(files.values())
    return {**settings, "data.digest": data_digest}


@storage_errors()
def open_study(storage: Storage, study: Study, data_digest: str, *, evaluates: Evaluates = "validation") -> StoredStudy:
    """The stored study of this name, which is created if there is none, and extended if `study` is larger.

    Args:
        storage: where it is stored.
        study: its settings.
        data_digest: digest of its images and their split.
        evaluates: the split that judges its trainings.

    Raises:
        StudyMismatch: it was made with other settings, other data, or for another split, or it is larger.
        StorageError: another tool made a study of this name, or the storage failed.
    """
    wanted = fingerprint(study, data_digest)
    stored = optuna.create_study(
        storage=storage,
        study_name=study.name,
        direction="minimize" if study.metric == "val_loss" else "maximize",
        load_if_exists=True,
    )

    # A new study, or one whose creator died on one of these lines, or two creators mixed what they wrote.
    is_new = not stored.user_attrs.keys() - {_SCHEMA, _STUDY, _DATA, _EVALUATES, _PARTS}
    if not stored.get_trials(deepcopy=False) and (is_new or _is_mixed(storage, study.name)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            stored.set_metric_names([study.metric])
        stored.set_user_attr(_SCHEMA, SCHEMA_VERSION)
        stored.set_user_attr(_STUDY, study.model_dump(mode="json"))
        stored.set_user_attr(_DATA, data_digest)
        if evaluates != "validation":
            stored.set_user_attr(_EVALUATES, evaluates)
        stored.set_user_attr(_FINGERPRINT, wanted)

    # The same settings?
    optuna_study = join_study(storage, study.name)
    before = fingerprint_of(optuna_study)
    changed = [key for key in sorted({*before, *wanted}) if before.get(key) != wanted.get(key)]
    if _CODE in changed and all(key.startswith("baseline.") for key in changed) and not _has_trained(optuna_study):
        # A first attempt found the user's own code wrong, and now it is another one.
        optuna.delete_study(study_name=study.name, storage=storage)
        return open_study(storage, study, data_digest, evaluates=evaluates)
    if changed:
        if reason := refusal(before, wanted, changed):
            raise StudyMismatch(f"the study {study.name!r} in {storage.name} {reason}")
        if has_earlier_shares(optuna_study, study):
            raise no_further_candidates(study.name)
        extend(optuna_study, extent_of(study))
        return open_study(storage, study, data_digest, evaluates=evaluates)  # unless another machine made it larger
    if evaluates != evaluates_of(optuna_study):
        if evaluates == "validation":
            raise StudyMismatch(
                f"the study {study.name!r} in {storage.name} validates a rule on the test split; use another study name"
            )
        optuna_study.set_user_attr(_EVALUATES, evaluates)  # an earlier version, which did not store it, made the study
    return optuna_study


class _MixedStudy(StudyMismatch):
    """Two commands that made a study at once stored the settings of one and the fingerprint of the other."""


def _is_mixed(storage: Storage, name: str) -> bool:
    try:
        join_study(storage, name)
    except _MixedStudy:
        return True
    return False


def _is_another(attributes: Mapping[str, Any]) -> bool:
    """Whether the settings of a study are not those of its fingerprint."""
    made = attributes[_FINGERPRINT]
    settings = {**parse_study(attributes[_STUDY], "study").identity(), "data.digest": attributes[_DATA]}
    resolved = ("baseline.", "rounding.", "data.source")  # those of the fingerprint are what the settings resolve to
    return any(made.get(key, value) != value for key, value in settings.items() if not key.startswith(resolved))


def _has_trained(optuna_study: optuna.Study) -> bool:
    """Whether a trial runs, or has left a record."""
    trials = optuna_study.get_trials(deepcopy=False)
    return any(trial.state == TrialState.RUNNING or has_record(trial) for trial in trials)


@storage_errors()
def check_code(optuna_study: optuna.Study, study: Study) -> None:
    """Raises `StudyMismatch` if the user's own code on this machine is not that with which the study was made."""
    files = study.baseline.own_files()
    if files and digest_of(files.values()) != fingerprint_of(optuna_study).get(_CODE):
        names = enumerated(sorted(map(str, files.values())))
        raise StudyMismatch(f"{names}: this code is not that with which the study {study.name!r} was made")


@storage_errors()
def join_study(storage: Storage, name: str) -> StoredStudy:
    """The stored study called `name`.

    Raises `StorageError` if there is none, or another tool made it, and `StudyMismatch` if a newer version did.
    """
    try:
        optuna_study = StoredStudy(storage, name)
    except KeyError:
        there = study_names(storage)
        references = {f"{each}{REFERENCE}" for each in there}
        names = ", ".join(each for each in there if each not in references) or "none"
        raise StorageError(f"no study called {name!r} in {storage.name}; there: {names}") from None
    if not {_STUDY, _FINGERPRINT, _DATA} <= optuna_study.user_attrs.keys():
        raise StorageError(f"the study {name!r} in {storage.name} was not made by scalesearch")
    where = f"the study {name!r} in {storage.name}"
    check_types(
        optuna_study.user_attrs, where, {_STUDY: dict, _FINGERPRINT: dict, _DATA: str, _SCHEMA: int, _PARTS: list}
    )
    schema = optuna_study.user_attrs.get(_SCHEMA, 0)
    if schema > SCHEMA_VERSION:
        raise StudyMismatch(
            f"the study {name!r} in {storage.name} was made by a newer version of scalesearch (its schema is {schema}, "
            f"and this version knows those up to {SCHEMA_VERSION}): upgrade scalesearch"
        )
    try:
        optuna_study.sampler = sampler_for(study_of(optuna_study), 0)
    except InputError as error:
        if has_own_code(optuna_study.user_attrs[_STUDY]):
            raise  # this machine may lack it
        raise StorageError(f"{where} is damaged ({error})") from None
    if _is_another(optuna_study.user_attrs):
        raise _MixedStudy(
            f"{where} was made with two settings, by two commands at once: run one of them again, or use another study "
            "name"
        )
    return optuna_study


def sampler_for(study: Study, trial: int) -> optuna.samplers.BaseSampler:
    """The sampler of trial number `trial`.

    Every trial has a different seed, so neither another worker nor a resumed search draws the same point again.
    """
    seed = study.design.seed + trial
    if study.design.kind == "tpe":
        startup = max(4, study.design.size // 3)
        return optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=seed)  # draws nothing: all trials of a planned design are queued


@storage_errors()
def study_of(optuna_study: optuna.Study) -> Study:
    """The settings that the study was made with, and what it was extended to."""
    return studies_in(optuna_study)[-1]


@storage_errors()
def studies_in(optuna_study: optuna.Study) -> tuple[Study, ...]:
    """The settings that the study was made with, those of each extension, and those of all of them together."""
    attributes = optuna_study.user_attrs
    study = parse_study(attributes[_STUDY], f"study {optuna_study.study_name}")
    extents = [extent_of(study), *extensions_in(attributes)]
    return tuple(with_extent(study, extent) for extent in (*extents, joined(extents)))


@storage_errors()
def fingerprint_of(optuna_study: optuna.Study) -> Mapping[str, Any]:
    """The fingerprint that the study was made with, and what it was extended to."""
    attributes = optuna_study.user_attrs
    made = attributes[_FINGERPRINT]
    return {**made, **joined([{key: made[key] for key in GROWTH if key in made}, *extensions_in(attributes)])}


@storage_errors()
def data_digest(optuna_study: optuna.Study) -> str:
    """Digest of the data and split that the study was made with."""
    return str(optuna_study.user_attrs[_DATA])


@storage_errors()
def evaluates_of(optuna_study: optuna.Study) -> Evaluates:
    """The split that judges the study's trainings."""
    return "test" if optuna_study.user_attrs.get(_EVALUATES) == "test" else "validation"


@storage_errors()
def set_parts(optuna_study: optuna.Study, names: Sequence[str]) -> None:
    """Store the names of the studies that belong to one run, for workers that join it; the reference comes first."""
    if optuna_study.user_attrs.get(_PARTS) != [*names]:
        optuna_study.set_user_attr(_PARTS, [*names])


@storage_errors()
def parts_in(optuna_study: optuna.Study) -> tuple[str, ...]:
    """What `set_parts` stored; empty for a study of an earlier version."""
    return tuple(optuna_study.user_attrs.get(_PARTS, ()))


@storage_errors()
def enqueue_missing(
    optuna_study: optuna.Study, wanted: Sequence[PlannedTrial], *, planned: bool = True, again: bool = True
) -> int:
    """Queue the seeds of the `wanted` trials that no trial waits, runs or has a record for; returns how many trials.

    The seeds that a candidate lacks are one trial. A candidate that failed is not tried for further seeds.

    Args:
        optuna_study: the stored study.
        wanted: what it is to hold.
        planned: whether they belong to the design.
        again: whether to queue those again that were given up because their workers died.
    """
    missing = lacking(optuna_study.get_trials(deepcopy=False), wanted, again=again)
    for trial in missing:
        enqueue(optuna_study, trial.candidate, trial.seeds, planned=planned)
    return len(missing)


@storage_errors()
def enqueue(optuna_study: optuna.Study, candidate: Candidate, seeds: tuple[int, ...], *, planned: bool) -> None:
    """Queue a trial of `candidate`; `planned` says whether it belongs to the design."""
    optuna_study.add_trial(queued_trial(candidate, seeds, planned=planned))


@storage_errors()
def snapshot(optuna_study: optuna.Study) -> tuple[tuple[TrialRecord, ...], Mapping[str, int], str | None]:
    """What the study holds at one moment: the records, how many trials are in each state, and the last day.

    Records are those of the trials that have ended, in the order in which their networks were queued. States are
    `waiting`, `running`, `complete`, `pruned`, `failed` for a recorded reason. The day, in ISO form, is that on
    which the last trial with a record ended; None before there is one.
    """
    trials = optuna_study.get_trials(deepcopy=False)
    ended = with_records(trials)
    last = max((trial.datetime_complete for trial in ended if trial.datetime_complete is not None), default=None)
    return tuple(map(record_of, ended)), states_of(trials), last.date().isoformat() if last else None


def records(optuna_study: optuna.Study) -> tuple[TrialRecord, ...]:
    """The records of `snapshot`."""
    return snapshot(optuna_study)[0]


def count_states(optuna_study: optuna.Study) -> Mapping[str, int]:
    """How many trials are in each state, as in `snapshot`."""
    return snapshot(optuna_study)[1]
