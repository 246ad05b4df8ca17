"""Pruning by successive halving, by the metric that each trial reports after every epoch.

Optuna's `SuccessiveHalvingPruner` marks each rung in the trial before the trial ends. One whose worker dies in between
would pass that rung when it is trained again. So the same rule is applied here to the reported values alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from scalesearch.search.plan.design import Plan, halvings
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    from scalesearch.training.loop import EpochReport

Watch = Callable[["EpochReport"], bool]
"""Gets every epoch of a candidate, and says whether the candidate is pruned there."""


def goes_on(report: EpochReport) -> bool:
    """The watch that prunes nothing."""
    del report
    return False


def first_rung(study: Study, plan: Plan) -> int:
    """The step at which candidates are halved first, for the last time at 1/2 of their epochs, counted over all seeds.

    The rungs are at this step, twice, four times … of it.
    """
    return math.ceil(study.seeds * study.training.epochs / 2.0 ** halvings(study, plan))


def watch_of(optuna_study: StoredStudy, trial: optuna.Trial, study: Study, seeds: tuple[int, ...], first: int) -> Watch:
    """A watch that stores each epoch in `trial`, and prunes at the rungs from step `first` on, but not at the end.

    The step of a report is the number of epochs trained so far, over all seeds. Its value is the mean of the metric
    over the seeds begun, each after its last epoch. So at each step all candidates have trained on the same images, at
    the same learning rates, for the same seeds.
    """
    finished: list[float] = []
    last = 0

    def watch(report: EpochReport) -> bool:
        nonlocal last
        step = (seeds.index(report.seeds[0]) * report.epochs + report.epoch) * len(report.seeds)
        passed, last = range(last + 1, step + 1), step
        value = getattr(report, study.metric)
        mean = fmean([*finished, value])
        # `trial.report` warns of a step that an earlier attempt reported.
        optuna_study.storage.set_trial_intermediate_value(optuna_study.id_of(trial.number), step, mean)
        if report.epoch == report.epochs:
            finished.append(value)
        if step == len(seeds) * report.epochs:
            return False
        rungs = [rung for power in range(step.bit_length()) if (rung := first * 2**power) in passed]
        is_lesser = any(_falls_behind(optuna_study, trial.number, mean, rung, first) for rung in rungs)
        return is_lesser and _train_alike(optuna_study)

    return watch


def _falls_behind(optuna_study: optuna.Study, number: int, value: float, rung: int, first: int) -> bool:
    """Whether the trial of this number, with this value at `rung`, is not among the better half that came so far."""
    if math.isnan(value):
        return True
    others = (trial for trial in optuna_study.get_trials(deepcopy=False) if trial.number != number)
    values = sorted([value, *(other for trial in others if (other := _value_at(trial, rung, first)) is not None)])
    better = max(len(values) // 2 - 1, 0)
    if optuna_study.direction == optuna.study.StudyDirection.MAXIMIZE:
        return value < values[-better - 1]
    return value > values[better]


def _value_at(trial: FrozenTrial, rung: int, first: int) -> float | None:
    """What the trial reported first at or after the step `rung`; None if it did not come so far."""
    reported = trial.intermediate_values
    step = min((step for step in reported if step >= rung), default=None)
    if step is None or math.isnan(reported[step]):
        return None
    if trial.state == TrialState.PRUNED and rung > first and step == min(step for step in reported if 2 * step >= rung):
        return None  # pruned at the rung before, which it reached with the same epoch
    return reported[step]


def _train_alike(optuna_study: optuna.Study) -> bool:
    """Whether all trials train their seeds one after the other, or all trials train them together.

    The same step means different epochs in each case. Only the first has a step 1; with one seed both are the same.
    """
    reported = (trial.intermediate_values for trial in optuna_study.get_trials(deepcopy=False))
    return len({1 in values for values in reported if values}) == 1
