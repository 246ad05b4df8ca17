"""Tasks: what the trial that a worker has just claimed trains."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial, TrialState

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.feasible import Candidate, FeasibleSet, feasible_set
from scalesearch.search.plan.design import Plan, first_seeds, planned_size
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.trials import (
    Trials,
    Twins,
    candidate_of,
    completes_others,
    has_record,
    holds_task,
    next_waiting,
    seeds_of,
    set_candidate,
    suggested,
)
from scalesearch.study.sections import Study

Expect = Callable[[Candidate, tuple[int, ...]], None]
"""Gets the candidate and the seeds that a worker will probably evaluate next."""


class QueuedTasks:
    """What the trials of a planned design or a race train: it was queued with them."""

    def __init__(self, optuna_study: StoredStudy, expect: Expect | None, workers: int) -> None:
        self._optuna_study, self._expect, self._workers = optuna_study, expect, workers
        self._twins = Twins()
        self._trials: Trials = ()  # at the last look

    def left(self, trials: Trials) -> int:
        """How many of `trials`, all trials of the study, are waiting."""
        self._trials = trials
        return sum(trial.state == TrialState.WAITING for trial in trials)

    def task(self, trial: optuna.Trial) -> tuple[Candidate, tuple[int, ...]]:
        """The candidate and the seeds of a trial that was just claimed. Raises `TrialPruned` for a superfluous one.

        That is a trial that nobody queued: another worker took the last one between the look and the claim. Or it is
        one of two with the same task, as when two runs fill the queue at once.
        """
        trials = self._trials
        if trial.number >= len(trials):  # queued after the look
            trials = self._optuna_study.get_trials(deepcopy=False)
        claimed = trials[trial.number]
        candidate = candidate_of(claimed)
        # Another of the same network may have ended since the look, or it was not read how. So look again.
        if candidate is None or (
            self._twins.others(trials, claimed)
            and self._twins.is_superfluous(self._optuna_study.get_trials(deepcopy=False), claimed)
        ):
            raise optuna.TrialPruned
        if not claimed.params:  # queued by `enqueue_trial`, which leaves them to the worker that claims it
            suggested(trial)
        following = None if self._expect is None else next_waiting(self._trials, trial, self._workers)
        if self._expect is not None and following is not None:
            self._expect(*following)
        return candidate, seeds_of(claimed)


class SampledTasks:
    """What the trials of an adaptive search train: the free feasible candidate nearest to a sampler's suggestion."""

    def __init__(self, optuna_study: StoredStudy, study: Study, plan: Plan) -> None:
        self._optuna_study, self._budget = optuna_study, study.budget
        self._seeds, self._size = first_seeds(study), planned_size(study, plan)
        baseline = plan.baseline
        feasible = feasible_set(baseline.spec, baseline.rounding, study.budget, study.tolerance, study.cost)
        self._feasible: FeasibleSet = feasible.without_twins()

    def left(self, trials: Trials) -> int:
        """How many trials are still to begin; `trials` are all trials of the study."""
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        to_begin = self._size - sum(map(_is_taken, trials)) + sum(map(completes_others, waiting))
        return max(to_begin, len(waiting))  # a superfluous one that was given back is claimed, too, and pruned

    def task(self, trial: optuna.Trial) -> tuple[Candidate, tuple[int, ...]]:
        """The candidate and the seeds of a new trial, which are stored with it; or those of one that waited.

        That is one that was given back, or that trains further seeds of a candidate. Raises `TrialPruned` for a
        superfluous one: others have begun as many as the study asks for, no network is free, or another trains it.
        """
        if (candidate := candidate_of(trial)) is not None:
            trials = self._optuna_study.get_trials(deepcopy=False)
            claimed = trials[trial.number]
            taken = sum(_is_taken(other) for other in trials if other.number != trial.number)
            is_one_more = not completes_others(claimed) and taken >= self._size
            if is_one_more or Twins().is_superfluous(trials, claimed):
                raise optuna.TrialPruned
            return candidate, seeds_of(trial)
        target = suggested(trial)
        order = self._feasible.log_distances(target, self._budget).argsort(kind="stable").tolist()
        while True:
            others = self._others(trial)
            if sum(_is_taken(other) for other in others if other.number < trial.number) >= self._size:
                raise optuna.TrialPruned
            candidate = self._nearest_free(order, _taken_specs(others))
            set_candidate(trial, candidate, self._seeds)
            # Another worker may have taken it since the look.
            if candidate.spec not in _taken_specs(self._others(trial)):
                return candidate, self._seeds

    def _others(self, trial: optuna.Trial) -> Trials:
        return [other for other in self._optuna_study.get_trials(deepcopy=False) if other.number != trial.number]

    def _nearest_free(self, order: list[int], taken: set[ArchitectureSpec]) -> Candidate:
        for row in order[: len(taken) + 1]:
            candidate = self._feasible.candidate(row)
            if candidate.spec not in taken:
                return candidate
        raise optuna.TrialPruned


def _is_taken(trial: FrozenTrial) -> bool:
    return (trial.state == TrialState.RUNNING or has_record(trial)) and not completes_others(trial)


def _taken_specs(trials: Trials) -> set[ArchitectureSpec]:
    candidates = (candidate_of(trial) for trial in trials if holds_task(trial))
    return {candidate.spec for candidate in candidates if candidate is not None}
