"""What a trial stores: its candidate and seeds, and the record of its training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from scalesearch.results.records import TrialRecord, candidate_from_json, candidate_to_json, record_from_json
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.simplex import Shares, from_search_space
from scalesearch.search.plan.design import PlannedTrial

Trials = Sequence[FrozenTrial]

Task = tuple[ArchitectureSpec, tuple[int, ...]]
"""What a trial is for: a network to train for some seeds."""

CANDIDATE, SEEDS, _PLANNED, RECORD = "candidate", "seeds", "planned", "record"

WORKER, BEAT, DEATHS = "worker", "beat", "deaths"
"""Who runs the trial, or ended it; the count of its signs of life, with the fraction that is trained; and how
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
            SEEDS: list(seeds),
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
    trial.set_user_attr(SEEDS, list(seeds))
    for name, value in _attributes(candidate).items():
        trial.set_user_attr(name, value)


def set_record(trial: optuna.Trial, document: Mapping[str, Any]) -> None:
    """Store a record's JSON and, where Optuna's dashboard shows it, its failure."""
    if document["failure"]:
        trial.set_user_attr("failure", document["failure"])
    trial.set_user_attr(RECORD, document)


def _attributes(candidate: Candidate) -> dict[str, Any]:
    """The candidate's JSON, and single values of it that Optuna's dashboard shows and sorts by."""
    document = candidate_to_json(candidate)
    shown = ("alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations", "shares")
    single = {key: document[key] for key in shown}
    return {**single, "resolution": document["spec"]["resolution"], CANDIDATE: document}


def candidate_of(trial: FrozenTrial | optuna.Trial) -> Candidate | None:
    """The candidate that the trial trains; None if it has none yet."""
    attributes = trial.user_attrs
    # A worker that slept may have stored another one since, in an adaptive search: the record says what was trained.
    document = attributes[RECORD]["candidate"] if RECORD in attributes else attributes.get(CANDIDATE)
    return None if document is None else candidate_from_json(document)


def seeds_of(trial: FrozenTrial | optuna.Trial) -> tuple[int, ...]:
    """The seeds of a trial that has a candidate."""
    return tuple(trial.user_attrs[SEEDS])


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
        return RECORD in trial.user_attrs
    if trial.state == TrialState.PRUNED:  # a superfluous trial is pruned, too, but has reported nothing
        return RECORD in trial.user_attrs and bool(trial.intermediate_values)
    # A trial can also be cut short between its record and its end. Then it has not failed.
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(RECORD, {}).get("failure"))


def holds_task(trial: FrozenTrial) -> bool:
    """Whether the trial accounts for its task: it waits, runs, or ended with a record."""
    return not trial.state.is_finished() or has_record(trial)


def worker_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """Who runs the trial, or ended it (`runtime.presence.present`); empty if nobody has said so."""
    return dict(trial.user_attrs.get(WORKER, {}))


def was_held(trial: FrozenTrial) -> bool:
    """Whether a worker ever held the trial."""
    return WORKER in trial.user_attrs


def done_of(trial: FrozenTrial) -> float | None:
    """The fraction that was trained at the last sign of life of the trial's worker; None before the first."""
    beat = trial.user_attrs.get(BEAT)
    return None if beat is None else float(beat[1])


def deaths_of(trial: FrozenTrial) -> list[str]:
    """How workers of the trial ended without a result."""
    return list(trial.user_attrs.get(DEATHS, ()))


def is_given_up(trial: FrozenTrial) -> bool:
    """Whether the trial ended without a record because its workers died again and again."""
    return trial.state == TrialState.FAIL and bool(deaths_of(trial)) and not has_record(trial)


def with_records(trials: Trials) -> list[FrozenTrial]:
    """Those of `trials`, all trials of a study, that have a record, in the order in which their networks were queued.

    The trial that follows one that was given up stands in its place: sums over all records are the same to the last bit
    as if no worker had died.
    """
    lost = [trial for trial in trials if is_given_up(trial)]

    def place(trial: FrozenTrial) -> int:
        candidate = trial.user_attrs.get(CANDIDATE)
        numbers = (other.number for other in lost if other.user_attrs.get(CANDIDATE) == candidate)
        return min((trial.number, *numbers))

    return sorted(filter(has_record, trials), key=place)


def kept_record(trial: FrozenTrial) -> TrialRecord | None:
    """The record of a trial that has not ended, if its worker stored one."""
    return record_of(trial) if RECORD in trial.user_attrs else None


def record_of(trial: FrozenTrial) -> TrialRecord:
    """The record of a trial that has one."""
    return record_from_json(trial.user_attrs[RECORD])


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


def completes_others(trial: FrozenTrial) -> bool:
    """Whether the trial trains more seeds of a network that another trial trains; each network begins with seed 0."""
    return CANDIDATE in trial.user_attrs and seeds_of(trial)[0] != 0


def has_failed(trial: FrozenTrial) -> bool:
    """Whether the trial ended with the record of a failure, or was pruned."""
    return trial.state != TrialState.COMPLETE and has_record(trial)


def lacking(trials: Trials, wanted: Iterable[PlannedTrial], *, again: bool = True) -> list[PlannedTrial]:
    """What `trials`, all trials of a study, leave out of the `wanted` ones: each network with the seeds it lacks.

    A network that failed lacks none. Those that were given up because their workers died count as missing, if they are
    to be tried `again`.
    """
    held: dict[ArchitectureSpec, set[int]] = {}
    failed: set[ArchitectureSpec] = set()
    for trial in trials:
        candidate = candidate_of(trial)
        if candidate is None or not (holds_task(trial) or (not again and is_given_up(trial))):
            continue
        held.setdefault(candidate.spec, set()).update(seeds_of(trial))
        if has_failed(trial):
            failed.add(candidate.spec)
    missing = []
    for each in wanted:
        spec = each.candidate.spec
        if spec not in failed and (seeds := tuple(seed for seed in each.seeds if seed not in held.get(spec, ()))):
            missing.append(replace(each, seeds=seeds))
    return missing


class Twins:
    """Finds trials that others make superfluous; indexes each trial of a study once."""

    def __init__(self) -> None:
        self._numbers: dict[int, list[int]] = {}  # of trials, by macs, which are quick to compare
        self._known = 0

    def others(self, trials: Trials, trial: FrozenTrial) -> list[FrozenTrial]:
        """The others of `trials`, all trials of a study, with the network of `trial`, which has a candidate."""
        for other in trials[self._known :]:
            if CANDIDATE in other.user_attrs:
                self._numbers.setdefault(other.user_attrs[CANDIDATE]["macs"], []).append(other.number)
        self._known = len(trials)
        document = trial.user_attrs[CANDIDATE]
        similar = (trials[number] for number in self._numbers.get(document["macs"], ()) if number != trial.number)
        return [other for other in similar if other.user_attrs[CANDIDATE]["spec"] == document["spec"]]

    def is_superfluous(self, trials: Trials, trial: FrozenTrial) -> bool:
        """Whether another of `trials`, all trials of a study, has the network and all seeds of `trial`; or it failed.

        Of two that have not ended the later one is superfluous. `trial` has a candidate.
        """
        seeds = set(seeds_of(trial))
        return any(
            holds_task(other) and (has_failed(other) or (seeds.issubset(seeds_of(other)) and _is_before(other, trial)))
            for other in self.others(trials, trial)
        )


def _is_before(other: FrozenTrial, trial: FrozenTrial) -> bool:
    return other.number < trial.number or has_record(other)
