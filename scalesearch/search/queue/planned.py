"""What a stored study may train: the plan of its settings, or the networks that it holds already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna

from scalesearch.errors import StudyMismatch
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.feasible import feasible_set
from scalesearch.search.plan.design import Plan, PlannedTrial, make_plan, plan_of
from scalesearch.search.queue.earlier_shares import has_earlier_shares, no_further_candidates
from scalesearch.search.queue.optuna_study import evaluates_of, studies_in
from scalesearch.search.queue.storage import storage_errors
from scalesearch.search.queue.trials import candidate_of, is_planned, seeds_of, task_of
from scalesearch.study.sections import Study


@storage_errors()
def plan_for(optuna_study: optuna.Study, study: Study, plan: Plan | None = None) -> Plan:
    """What the stored study trains.

    That is `plan`, by default the plan of `study`. A validation trains what it holds, since its candidates come from no
    design. So does a search that a version began that read shares off α, β and γ: it ends as it was planned.

    Raises:
        StudyMismatch: a search of such a version is to plan further candidates. Two kinds of shares on one surface
            would mislead.
    """
    if evaluates_of(optuna_study) == "test":
        return queued_plan(optuna_study, study)
    if not has_earlier_shares(optuna_study, study):
        return make_plan(study) if plan is None else plan
    if study.race or study.design.kind == "tpe":
        raise no_further_candidates(study.name)
    return queued_plan(optuna_study, study)


def hold_earlier_shares(searches: Sequence[optuna.Study]) -> bool:
    """Whether an earlier version read the shares of the `searches` of one run off α, β and γ.

    Raises `StudyMismatch` if it did so for some of them only.
    """
    earlier = [each.study_name for each in searches if has_earlier_shares(each, studies_in(each)[-1])]
    if 0 < len(earlier) < len(searches):
        raise no_further_candidates(earlier[0])
    return bool(earlier)


@storage_errors()
def queued_plan(optuna_study: optuna.Study, study: Study) -> Plan:
    """The plan whose trials are the study's planned ones."""
    baseline = study.resolved_baseline()
    feasible = feasible_set(baseline.spec, baseline.rounding, study.budget, study.tolerance, study.cost)
    stored = [trial for trial in optuna_study.get_trials(deepcopy=False) if is_planned(trial)]
    trials = [
        PlannedTrial(candidate.shares, candidate, 0.0, seeds_of(trial))
        for trial in stored
        if (candidate := candidate_of(trial)) is not None
    ]
    return plan_of(study, feasible, tuple(trials))


@storage_errors()
def check_plan(optuna_study: optuna.Study, study: Study, plan: Plan) -> None:
    """Raises `StudyMismatch` if the study queued other networks than `plan`, as another version might."""
    wanted = {(trial.candidate.spec, trial.seeds) for trial in plan.distinct}
    trials = optuna_study.get_trials(deepcopy=False)
    others = [trial for trial in trials if is_planned(trial) and task_of(trial) not in wanted]
    allowed = _extended_tasks(optuna_study, plan) if others else {}
    for trial in others:
        candidate = candidate_of(trial)
        if candidate is None or not allowed.get(candidate.spec, set()).issuperset(seeds_of(trial)):
            raise StudyMismatch(
                f"the study {study.name!r} must hold the networks that are planned now, but trial "
                f"{trial.number} is another one, planned by another version of scalesearch or for another rule; "
                "use another run folder (`out`)"
            )


def _extended_tasks(optuna_study: optuna.Study, plan: Plan) -> Mapping[ArchitectureSpec, set[int]]:
    """The networks and seeds that an extended study may have planned, before and after; nothing in any other study."""
    stored = studies_in(optuna_study)
    if len(stored) == 2 or evaluates_of(optuna_study) == "test":
        return {}
    seeds = set(range(stored[-1].seeds))
    plans = [plan]
    if not any(trial.candidate.is_baseline for trial in plan.trials):  # a reference follows no design
        plans += map(make_plan, {each.design: each for each in stored}.values())
    return {trial.candidate.spec: seeds for each in plans for trial in each.distinct}
