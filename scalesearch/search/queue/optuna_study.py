"""The Optuna study: fingerprint, the queue of planned trials, and their records."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from scalesearch.errors import StorageError, StudyMismatch
from scalesearch.results.records import TrialRecord, candidate_from_json, candidate_to_json, record_from_json
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.simplex import Shares, from_search_space
from scalesearch.search.plan.design import PlannedTrial
from scalesearch.search.queue.cache import OneLook
from scalesearch.search.queue.storage import hidden, study_names
from scalesearch.study.load import parse_study
from scalesearch.study.sections import Study

Trials = Sequence[FrozenTrial]

_STUDY, _FINGERPRINT, _DATA = "study", "fingerprint", "data_digest"
_CANDIDATE, _SEEDS, _PLANNED, _REPLACES, _RECORD = "candidate", "seeds", "planned", "replaces", "record"

_SEARCH_SPACE: Mapping[str, FloatDistribution] = dict.fromkeys(
    ("depth_share", "width_fraction"), FloatDistribution(0.0, 1.0)
)
"""The parameters, in the order in which `scaling.simplex.from_search_space` takes them."""

Task = tuple[ArchitectureSpec, tuple[int, ...]]
"""What a queued trial stands for: a network to train for some seeds."""


def fingerprint(config: Study, data_digest: str) -> dict[str, Any]:
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


def open_study(storage: RDBStorage, config: Study, data_digest: str, evaluates: str = "validation") -> optuna.Study:
    """The stored study of this name, made now where there is none.

    Raises `StudyMismatch` where it was made with other settings or data.
    """
    wanted = fingerprint(config, data_digest)
    study = optuna.create_study(
        storage=storage,
        study_name=config.name,
        direction="minimize" if config.metric == "val_loss" else "maximize",
        load_if_exists=True,
    )
    # Also one whose maker died on this line or the next ones.
    if not study.user_attrs.keys() - {_STUDY, _DATA} and not study.get_trials(deepcopy=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([config.metric])
        study.set_user_attr(_STUDY, config.model_dump(mode="json"))
        study.set_user_attr(_DATA, data_digest)
        study.set_user_attr("evaluates", evaluates)
        study.set_user_attr(_FINGERPRINT, wanted)
    study = join_study(storage, config.name)
    stored: Mapping[str, Any] = study.user_attrs[_FINGERPRINT]
    changed = [key for key in sorted({*stored, *wanted}) if stored.get(key) != wanted.get(key)]
    if changed:
        told = ", ".join(f"`{key}` was {_short(stored.get(key))}, now {_short(wanted.get(key))}" for key in changed)
        raise StudyMismatch(
            f"the study {config.name!r} in {hidden(storage.url)} was made with other settings: {told}; "
            "use another --out (or study name), or the same settings"
        )
    return study


def join_study(storage: RDBStorage, name: str) -> optuna.Study:
    """The stored study called `name`. Raises `StorageError` where there is none, or another tool's."""
    try:
        study = optuna.load_study(storage=OneLook(storage), study_name=name)
    except KeyError:
        raise StorageError(
            f"no study called {name!r} in {hidden(storage.url)}; there: {', '.join(study_names(storage)) or 'none'}"
        ) from None
    if not {_STUDY, _FINGERPRINT, _DATA} <= study.user_attrs.keys():
        raise StorageError(f"the study {name!r} in {hidden(storage.url)} was not made by scalesearch")
    study.sampler = sampler_for(config_of(study), 0)
    return study


def _short(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def sampler_for(config: Study, trial: int) -> optuna.samplers.BaseSampler:
    """The sampler of trial number `trial`.

    Each has a seed of its own, so that neither another worker nor a resumed search draws the same again.
    """
    seed = config.design.seed + trial
    if config.design.kind == "tpe":
        startup = max(4, config.design.size // 3)
        return optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=seed)  # never asked: every trial of a planned design is enqueued


def config_of(study: optuna.Study) -> Study:
    """The settings that the study was made with."""
    return parse_study(study.user_attrs[_STUDY], f"study {study.study_name}")


def evaluates_of(s):
    return s.user_attrs.get("evaluates", "validation")


study_of = config_of


def queued_plan(s, study):
    from scalesearch.scaling.cost.count import complexity
    from scalesearch.search.plan.design import Plan

    ts = tuple(
        PlannedTrial(c.shares, c, 0.0, seeds_of(t))
        for t in s.get_trials(deepcopy=False)
        if t.user_attrs.get(_PLANNED) and (c := candidate_of(t)) is not None
    )
    b = study.resolved_baseline()
    return Plan(b, complexity(b.spec), study.budget, study.tolerance, 0, 0, 0, 0, ts)


def fingerprint_of(study: optuna.Study) -> Mapping[str, Any]:
    """The fingerprint that the study was made with."""
    return dict(study.user_attrs[_FINGERPRINT])


def data_digest(study: optuna.Study) -> str:
    """Digest of the data and split that the study was made with."""
    return str(study.user_attrs[_DATA])


def enqueue_missing(study: optuna.Study, wanted: Sequence[PlannedTrial], *, planned: bool = True) -> int:
    """Enqueue each of the `wanted` that is not queued, running, complete, pruned, or failed for a recorded reason."""
    settled = {task_of(trial) for trial in study.get_trials(deepcopy=False) if holds(trial)}
    missing = [trial for trial in wanted if (trial.candidate.spec, trial.seeds) not in settled]
    for trial in missing:
        enqueue(study, trial.candidate, trial.seeds, planned=planned)
    return len(missing)


def enqueue(
    study: optuna.Study, candidate: Candidate, seeds: tuple[int, ...], *, planned: bool, replaces: int | None = None
) -> None:
    """Queue a trial at the realised shares of its candidate; `planned`: it is one of the design's.

    `replaces` is the number of an interrupted trial that it stands in for. Its parameters are there from the start,
    which spares whoever claims it a transaction each.
    """
    shares = (candidate.shares.depth_share, candidate.shares.width_fraction)
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=dict(zip(_SEARCH_SPACE, shares, strict=True)),
            distributions={**_SEARCH_SPACE},
            user_attrs={
                **_attributes(candidate),
                _SEEDS: list(seeds),
                _PLANNED: planned,
                **({} if replaces is None else {_REPLACES: replaces}),
            },
        )
    )


def enqueue_again(study: optuna.Study, trial: optuna.Trial) -> None:
    """Queue what an interrupted trial stands for; nothing for one that a sampler proposed."""
    if is_queued(trial):
        candidate = candidate_from_json(trial.user_attrs[_CANDIDATE])
        enqueue(study, candidate, seeds_of(trial), planned=trial.user_attrs[_PLANNED], replaces=trial.number)


def check_plan(study: optuna.Study, planned: Sequence[PlannedTrial]) -> None:
    """Raises `StudyMismatch` where the study queued other networks than `planned`, as another version might."""
    wanted = {(trial.candidate.spec, trial.seeds) for trial in planned}
    for trial in study.get_trials(deepcopy=False):
        if trial.user_attrs.get(_PLANNED) and task_of(trial) not in wanted:
            raise StudyMismatch(
                f"the study {study.study_name!r} must hold the networks that are planned now, but trial {trial.number} "
                "is another one, planned by another version of scalesearch or for another rule; use another --out"
            )


def candidate_of(trial: FrozenTrial | optuna.Trial) -> Candidate | None:
    """The candidate that the trial stands for; None where it has none yet."""
    document = trial.user_attrs.get(_CANDIDATE)
    return None if document is None else candidate_from_json(document)


def seeds_of(trial: FrozenTrial | optuna.Trial) -> tuple[int, ...]:
    """The seeds of a trial that has a candidate."""
    return tuple(trial.user_attrs[_SEEDS])


def suggested(trial: optuna.Trial) -> Shares:
    """The shares that the study's sampler suggests, or that the trial was queued with."""
    return from_search_space(
        *(trial.suggest_float(name, bounds.low, bounds.high) for name, bounds in _SEARCH_SPACE.items())
    )


def set_candidate(trial: optuna.Trial, candidate: Candidate, seeds: tuple[int, ...]) -> None:
    """Say what a trial that a sampler proposed stands for."""
    trial.set_user_attr(_SEEDS, list(seeds))
    for name, value in _attributes(candidate).items():
        trial.set_user_attr(name, value)


def _attributes(candidate: Candidate) -> dict[str, Any]:
    """The candidate's JSON, and beside it what the dashboard should show as attributes of its own."""
    document = candidate_to_json(candidate)
    shown = ("alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations", "shares")
    own = {key: document[key] for key in shown}
    return {**own, "resolution": document["spec"]["resolution"], _CANDIDATE: document}


def is_queued(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether the trial was queued; else a sampler proposed it."""
    return _PLANNED in trial.user_attrs


def next_waiting(
    trials: Sequence[FrozenTrial], claimed: optuna.Trial, workers: int
) -> tuple[Candidate, tuple[int, ...]] | None:
    """What one of `workers` is likely to claim after `claimed`: each of the others takes one before it.

    `trials` were read before the claim; others may have claimed since.
    """
    unfinished = [trial for trial in trials if not trial.state.is_finished()]
    others = max(sum(trial.number < claimed.number for trial in unfinished), workers - 1)
    waiting = (trial for trial in unfinished if trial.state == TrialState.WAITING and trial.number > claimed.number)
    following = next(islice(waiting, others, None), None)
    candidate = None if following is None else candidate_of(following)
    return None if following is None or candidate is None else (candidate, seeds_of(following))


class Twins:
    """Finds trials that stand for the same network and seeds; looks at each trial of a study once."""

    def __init__(self) -> None:
        self._alike: dict[tuple[int, ...], list[int]] = {}  # numbers of trials, by what is quick to compare
        self._known = 0

    def of(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial]:
        """The others of `trials`, all of a study, that stand for what `trial` does, which has a candidate.

        Not the one that it replaces, which may not have ended yet.
        """
        for other in trials[self._known :]:
            if _CANDIDATE in other.user_attrs:
                self._alike.setdefault(self._key(other.user_attrs), []).append(other.number)
        self._known = len(trials)
        not_these = (trial.number, trial.user_attrs.get(_REPLACES))
        alike = (trials[number] for number in self._alike[self._key(trial.user_attrs)] if number not in not_these)
        spec = trial.user_attrs[_CANDIDATE]["spec"]
        return [other for other in alike if other.user_attrs[_CANDIDATE]["spec"] == spec]

    @staticmethod
    def _key(attributes: Mapping[str, Any]) -> tuple[int, ...]:
        return (attributes[_CANDIDATE]["macs"], *attributes[_SEEDS])


def task_of(trial: FrozenTrial | optuna.Trial) -> Task | None:
    """What the trial stands for; None where it has no candidate yet."""
    candidate = candidate_of(trial)
    return None if candidate is None else (candidate.spec, seeds_of(trial))


def has_record(trial: FrozenTrial) -> bool:
    """Whether the trial ended with a record: complete, pruned, or failed for a reason that would come again."""
    if trial.state == TrialState.COMPLETE:
        return _RECORD in trial.user_attrs
    if trial.state == TrialState.PRUNED:  # so is a trial too many, which has reported nothing
        return _RECORD in trial.user_attrs and bool(trial.intermediate_values)
    # A trial can also be cut short between its record and its end: then it has not failed.
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(_RECORD, {}).get("failure"))


def holds(trial: FrozenTrial) -> bool:
    """Whether the trial stands for its network: it waits, runs, or ended with a record."""
    return not trial.state.is_finished() or has_record(trial)


def set_record(trial: optuna.Trial, document: Mapping[str, Any]) -> None:
    """Store a record's JSON and, where the dashboard shows it, its failure."""
    if document["failure"]:
        trial.set_user_attr("failure", document["failure"])
    trial.set_user_attr(_RECORD, document)


def record_of(trial: FrozenTrial) -> TrialRecord:
    """The record of a trial that has one."""
    return record_from_json(trial.user_attrs[_RECORD])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a study holds at one moment: records of the finished trials, in their order, and `count_states`.

    `last_date` is the day, in ISO form, on which the last trial with a record ended; None before there is one.
    """

    records: tuple[TrialRecord, ...]
    states: Mapping[str, int]
    last_date: str | None


def snapshot(study: optuna.Study) -> Snapshot:
    """One look at the storage, so that what it says belongs together while workers go on."""
    trials = study.get_trials(deepcopy=False)
    ended = [trial for trial in trials if has_record(trial)]
    last = max((trial.datetime_complete for trial in ended if trial.datetime_complete is not None), default=None)
    return Snapshot(tuple(map(record_of, ended)), states_of(trials), last.date().isoformat() if last else None)


def records(study: optuna.Study) -> tuple[TrialRecord, ...]:
    """Records of all finished trials, in their order."""
    return snapshot(study).records


def count_states(study: optuna.Study) -> Mapping[str, int]:
    """How many trials are `waiting`, `running`, `complete`, `pruned`, or `failed` for a recorded reason."""
    return states_of(study.get_trials(deepcopy=False))


def states_of(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """`count_states` of trials that were read already."""
    ended = (TrialState.PRUNED, TrialState.FAIL)
    states = Counter(trial.state for trial in trials if trial.state not in ended or has_record(trial))
    return {
        "waiting": states[TrialState.WAITING],
        "running": states[TrialState.RUNNING],
        "complete": states[TrialState.COMPLETE],
        "pruned": states[TrialState.PRUNED],
        "failed": states[TrialState.FAIL],
    }
