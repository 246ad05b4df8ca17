"""What a trial stores: its candidate and seeds, and the record of its training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from scalesearch.results.records import TrialRecord, candidate_from_json, candidate_to_json, record_from_json
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.simplex import Shares, from_search_space

Trials = Sequence[FrozenTrial]

Task = tuple[ArchitectureSpec, tuple[int, ...]]
"""What a trial is for: a network to train for some seeds."""

_CANDIDATE, _SEEDS, _PLANNED, _RECORD = "candidate", "seeds", "planned", "record"

WORKER, BEAT, DEATHS = "worker", "beat", "deaths"
"""Who runs the trial or ran it last; the count of its signs of life, with the fraction that is trained; and how
workers of it ended without a result."""

_SEARCH_SPACE: Mapping[str, FloatDistribution] = dict.fromkeys(
    ("depth_share", "width_fraction"), FloatDistribution(0.0, 1.0)
)
"""The parameters, in the order in which `scaling.simplex.from_search_space` takes them."""


def queued_trial(candidate: Candidate, seeds: tuple[int, ...], *, planned: bool) -> FrozenTrial:
    """A trial to add to the queue, at the shares of `candidate`.

    Args:
        candidate: the network to train.
        seeds: the seeds to train it for.
        planned: whether it belongs to the design.
    """
    # With its parameters in place, the worker that claims it need not write them.
    shares = (candidate.shares.depth_share, candidate.shares.width_fraction)
    return optuna.create_trial(
        state=TrialState.WAITING,
        params=dict(zip(_SEARCH_SPACE, shares, strict=True)),
        distributions={**_SEARCH_SPACE},
        user_attrs={
            **_attributes(candidate),
            _SEEDS: list(seeds),
            _PLANNED: planned,
        },
    )


def suggested(trial: optuna.Trial) -> Shares:
    """The shares that the study's sampler suggests, or that the trial was queued with."""
    return from_search_space(
        *(trial.suggest_float(name, bounds.low, bounds.high) for name, bounds in _SEARCH_SPACE.items())
    )


def set_candidate(trial: optuna.Trial, candidate: Candidate, seeds: tuple[int, ...]) -> None:
    """Store what a trial of an adaptive search trains."""
    trial.set_user_attr(_SEEDS, list(seeds))
    for name, value in _attributes(candidate).items():
        trial.set_user_attr(name, value)


def set_record(trial: optuna.Trial, document: Mapping[str, Any]) -> None:
    """Store a record's JSON and, where Optuna's dashboard shows it, its failure."""
    if document["failure"]:
        trial.set_user_attr("failure", document["failure"])
    trial.set_user_attr(_RECORD, document)


def _attributes(candidate: Candidate) -> dict[str, Any]:
    """The candidate's JSON, and single values of it that Optuna's dashboard shows and sorts by."""
    document = candidate_to_json(candidate)
    shown = ("alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations", "shares")
    single = {key: document[key] for key in shown}
    return {**single, "resolution": document["spec"]["resolution"], _CANDIDATE: document}


def candidate_of(trial: FrozenTrial | optuna.Trial) -> Candidate | None:
    """The candidate that the trial trains; None if it has none yet."""
    document = trial.user_attrs.get(_CANDIDATE)
    return None if document is None else candidate_from_json(document)


def seeds_of(trial: FrozenTrial | optuna.Trial) -> tuple[int, ...]:
    """The seeds of a trial that has a candidate."""
    return tuple(trial.user_attrs[_SEEDS])


def task_of(trial: FrozenTrial | optuna.Trial) -> Task | None:
    """The network and seeds that the trial trains; None if it has no candidate yet."""
    candidate = candidate_of(trial)
    return None if candidate is None else (candidate.spec, seeds_of(trial))


def is_planned(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether the trial belongs to the design; a race queues others, too."""
    return bool(trial.user_attrs.get(_PLANNED))


def has_record(trial: FrozenTrial) -> bool:
    """Whether the trial ended with a record: complete, pruned, or failed for a reason that would recur."""
    if trial.state == TrialState.COMPLETE:
        return _RECORD in trial.user_attrs
    if trial.state == TrialState.PRUNED:  # a superfluous trial is pruned, too, but has reported nothing
        return _RECORD in trial.user_attrs and bool(trial.intermediate_values)
    # A trial can also be cut short between its record and its end. Then it has not failed.
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(_RECORD, {}).get("failure"))


def holds_task(trial: FrozenTrial) -> bool:
    """Whether the trial accounts for its task: it waits, runs, or ended with a record."""
    return not trial.state.is_finished() or has_record(trial)


def worker_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """Who runs the trial, or ran it last (`runtime.presence.present`); empty if nobody has said so."""
    return dict(trial.user_attrs.get(WORKER, {}))


def deaths_of(trial: FrozenTrial) -> list[str]:
    """How workers of the trial ended without a result."""
    return list(trial.user_attrs.get(DEATHS, ()))


def is_given_up(trial: FrozenTrial) -> bool:
    """Whether the trial ended without a record because its workers died again and again."""
    return trial.state == TrialState.FAIL and bool(deaths_of(trial)) and not has_record(trial)


def kept_record(trial: FrozenTrial) -> TrialRecord | None:
    """The record of a trial that has not ended, if its worker stored one."""
    return record_of(trial) if _RECORD in trial.user_attrs else None


def record_of(trial: FrozenTrial) -> TrialRecord:
    """The record of a trial that has one."""
    return record_from_json(trial.user_attrs[_RECORD])


def states_of(trials: Trials) -> dict[str, int]:
    """How many trials are `waiting`, `running`, `complete`, `pruned`, or `failed` for a recorded reason."""
    without_value = (TrialState.PRUNED, TrialState.FAIL)
    states = Counter(trial.state for trial in trials if trial.state not in without_value or has_record(trial))
    return {
        "waiting": states[TrialState.WAITING],
        "running": states[TrialState.RUNNING],
        "complete": states[TrialState.COMPLETE],
        "pruned": states[TrialState.PRUNED],
        "failed": states[TrialState.FAIL],
    }


def next_waiting(trials: Trials, claimed: optuna.Trial, workers: int) -> tuple[Candidate, tuple[int, ...]] | None:
    """What one of `workers` will probably claim after `claimed`: each of the others claims one before that.

    `trials` were read before the claim; other workers may have claimed some since.
    """
    running = sum(trial.state == TrialState.RUNNING and trial.number < claimed.number for trial in trials)
    others = max(running, workers - 1)
    waiting = (trial for trial in trials[claimed.number + 1 :] if trial.state == TrialState.WAITING)
    following = next(islice(waiting, others, None), None)
    candidate = None if following is None else candidate_of(following)
    return None if following is None or candidate is None else (candidate, seeds_of(following))


class Twins:
    """Finds trials of the same task; indexes each trial of a study once."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, ...], list[int]] = {}  # of trials, by a key that is quick to compare
        self._known = 0

    def of(self, trials: Trials, trial: FrozenTrial) -> list[FrozenTrial]:
        """The others of `trials`, all trials of a study, with the task of `trial`, which has a candidate."""
        for other in trials[self._known :]:
            if _CANDIDATE in other.user_attrs:
                self._numbers.setdefault(self._key(other), []).append(other.number)
        self._known = len(trials)
        similar = (trials[number] for number in self._numbers[self._key(trial)] if number != trial.number)
        spec = trial.user_attrs[_CANDIDATE]["spec"]
        return [other for other in similar if other.user_attrs[_CANDIDATE]["spec"] == spec]

    @staticmethod
    def _key(trial: FrozenTrial) -> tuple[int, ...]:
        return (trial.user_attrs[_CANDIDATE]["macs"], *trial.user_attrs[_SEEDS])
