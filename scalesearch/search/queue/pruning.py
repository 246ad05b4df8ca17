"""Pruning: Optuna's successive halving, by the metric that each trial reports after every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean
from typing import TYPE_CHECKING

import optuna
from optuna.pruners import SuccessiveHalvingPruner

from scalesearch.search.plan.design import Plan, halvings
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    from scalesearch.training.loop import EpochReport

Watch = Callable[["EpochReport"], bool]
"""Gets every epoch of a candidate, and says whether the candidate is pruned there."""


def goes_on(report: EpochReport) -> bool:
    """The watch that prunes nothing."""
    del report
    return False


def pruner_of(study: Study, plan: Plan) -> SuccessiveHalvingPruner:
    """The pruner that halves after 1/2, before that 1/4, … of a candidate's epochs, counted over all its seeds."""
    first = math.ceil(study.seeds * study.training.epochs / 2 ** halvings(study, plan))
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)


def watch_of(optuna_study: optuna.Study, trial: optuna.Trial, study: Study, seeds: tuple[int, ...]) -> Watch:
    """A watch that reports each epoch to `trial` and asks the study's pruner, except after the last epoch.

    The step of a report is the number of epochs trained so far, over all seeds. Its value is the mean of the metric
    over the seeds begun, each after its last epoch. So at each step all candidates have trained on the same images, at
    the same learning rates, for the same seeds.
    """
    finished: list[float] = []

    def watch(report: EpochReport) -> bool:
        step = (seeds.index(report.seeds[0]) * report.epochs + report.epoch) * len(report.seeds)
        value = getattr(report, study.metric)
        trial.report(fmean([*finished, value]), step)
        if report.epoch == report.epochs:
            finished.append(value)
        is_last = step == len(seeds) * report.epochs
        return not is_last and trial.should_prune() and _train_alike(optuna_study)

    return watch


def _train_alike(optuna_study: optuna.Study) -> bool:
    """Whether all trials train their seeds one after the other, or all trials train them together.

    The same step means different epochs in each case. Only the first has a step 1; with one seed both are the same.
    """
    reported = (trial.intermediate_values for trial in optuna_study.get_trials(deepcopy=False))
    return len({1 in values for values in reported if values}) == 1
