"""Pruning: Optuna's successive halving of a study's trials, by what each reports after every epoch."""

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
"""Is told of every epoch of a candidate, and says whether the candidate is pruned there."""


def goes_on(report: EpochReport) -> bool:
    """The watch that prunes nothing."""
    del report
    return False


def pruner_of(config: Study, plan: Plan) -> SuccessiveHalvingPruner:
    """Halves after 1/2, before that after 1/4, … of a candidate's epochs, those of all its seeds counted."""
    first = math.ceil(config.seeds * config.training.epochs / 2 ** halvings(config, plan))
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)


def watch_of(study: optuna.Study, trial: optuna.Trial, config: Study, seeds: tuple[int, ...]) -> Watch:
    """Reports to `trial` and asks the pruner of `study`, but after the last epoch of all.

    Step: epochs trained so far, of all seeds together. Value: mean of the metric over the seeds begun, each after its
    last epoch. So at a step all candidates have seen the same images, at the same learning rates, for the same seeds.
    """
    finished: list[float] = []

    def watch(report: EpochReport) -> bool:
        step = (seeds.index(report.seeds[0]) * report.epochs + report.epoch) * len(report.seeds)
        value = getattr(report, config.metric)
        trial.report(fmean([*finished, value]), step)
        if report.epoch == report.epochs:
            finished.append(value)
        return step < len(seeds) * report.epochs and trial.should_prune() and _alike(study)

    return watch


def _alike(study: optuna.Study) -> bool:
    """Whether all trials train their seeds one after the other, or all side by side.

    A step means other epochs in each: the first way alone has a step 1 (with one seed they are the same).
    """
    reported = (trial.intermediate_values for trial in study.get_trials(deepcopy=False))
    return len({1 in values for values in reported if values}) == 1
