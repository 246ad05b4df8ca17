"""A worker: claims trials of a study one after the other and evaluates their candidates."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from scalesearch.config import StudyConfig
from scalesearch.records import TrialRecord, record_to_json
from scalesearch.scaling.feasible import Candidate, FeasibleSet, feasible_set
from scalesearch.scaling.simplex import from_search_space
from scalesearch.search import study as studies
from scalesearch.search.design import Plan, log_distances

Evaluate = Callable[[Candidate, tuple[int, ...]], TrialRecord]
"""Trains a candidate for the given seeds. Returns the record of a failure that would come again
(divergence, out of memory); raises for what ends the work (an interrupt, a defect)."""

POLL_SECONDS = 2.0


class TrialFailed(Exception):
    """A trial whose failure is recorded; the study goes on."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A trial of this worker that ended, with its record."""

    number: int
    record: TrialRecord


def work(
    study: optuna.Study,
    config: StudyConfig,
    plan: Plan,
    evaluate: Evaluate,
    on_finished: Callable[[Finished], None],
    on_wait: Callable[[int], None],
) -> None:
    """Evaluate trials until none is left, here or elsewhere.

    While other workers still run trials, waits for them (`on_wait` gets how many), since a trial whose
    worker died comes back to the queue. An interrupted trial goes back at once.
    """
    planned = plan.distinct
    adaptive = None if planned else _Adaptive(study, config, plan)
    seeds = tuple(range(config.seeds))

    def objective(trial: optuna.Trial) -> float:
        depth_share = trial.suggest_float("depth_share", 0.0, 1.0)
        width_fraction = trial.suggest_float("width_fraction", 0.0, 1.0)
        index = studies.planned_index(trial)
        if adaptive is not None:
            candidate = adaptive.candidate(depth_share, width_fraction)
        elif index is None:  # another worker took the last queued trial between the look and the claim
            raise optuna.TrialPruned
        else:
            candidate = planned[index].candidate
        trial.set_user_attr("spec", candidate.spec.to_json())
        try:
            record = evaluate(candidate, seeds)
        except KeyboardInterrupt:
            if index is not None:
                studies.enqueue(study, index, planned[index])
            raise
        studies.set_record(trial, record_to_json(record))
        if record.failure is not None:
            raise TrialFailed(record.failure.reason)
        return record.mean(config.metric)

    def after(study: optuna.Study, trial: FrozenTrial) -> None:
        del study
        if studies.has_record(trial):
            on_finished(Finished(trial.number, studies.record_of(trial)))

    while True:
        states = studies.count_states(study)
        begun = states["running"] + states["complete"] + states["failed"]
        left = states["waiting"] if adaptive is None else config.design.size - begun
        if left > 0:
            study.optimize(objective, n_trials=1, catch=(TrialFailed,), callbacks=[after])
        elif states["running"] == 0:
            return
        else:
            on_wait(states["running"])
            time.sleep(POLL_SECONDS)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                optuna.storages.fail_stale_trials(study)


class _Adaptive:
    """Snaps a sampler's suggestion to the nearest feasible candidate that no trial has taken."""

    def __init__(self, study: optuna.Study, config: StudyConfig, plan: Plan) -> None:
        self._study, self._budget = study, config.budget
        baseline = plan.baseline
        self._found: FeasibleSet = feasible_set(baseline.spec, baseline.rounding, config.budget, config.tolerance)

    def candidate(self, depth_share: float, width_fraction: float) -> Candidate:
        """The nearest free candidate; where all are taken, the nearest."""
        target = from_search_space(depth_share, width_fraction)
        taken = [
            trial.user_attrs["spec"]
            for trial in self._study.get_trials(deepcopy=False)
            if "spec" in trial.user_attrs and (trial.state == TrialState.RUNNING or studies.has_record(trial))
        ]
        order = log_distances(self._found, target, self._budget).argsort(kind="stable")
        for row in order[: len(taken) + 1].tolist():
            candidate = self._found.candidate(row)
            if candidate.spec.to_json() not in taken:
                return candidate
        return self._found.candidate(int(order[0]))
