"""What a stored study is to train, whatever its design was before, and how much of it is left."""

from __future__ import annotations

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import Plan, PlannedTrial, first_seeds, planned_size
from scalesearch.search.queue.optuna_study import enqueue
from scalesearch.search.queue.rounds import enqueue_rounds
from scalesearch.search.queue.storage import storage_errors
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.trials import (
    Trials,
    candidate_of,
    completes_others,
    holds_task,
    lacking,
    seeds_of,
)
from scalesearch.study.sections import Study


@storage_errors()
def fill_queue(optuna_study: StoredStudy, study: Study, plan: Plan, *, again: bool = True) -> int:
    """Queues what the study is to train and nobody has trained; returns how many trials there will be, as far as known.

    Networks of an earlier design, and those of an adaptive one, get as many seeds as the planned ones.

    Args:
        optuna_study: the stored study.
        study: its settings.
        plan: what it trains.
        again: whether to queue trials again that were given up because their workers died.
    """
    planned = {trial.candidate.spec for trial in plan.distinct}
    trials = optuna_study.get_trials(deepcopy=False)
    for missing in lacking(trials, _wanted(trials, study, plan), again=again):
        enqueue(optuna_study, missing.candidate, missing.seeds, planned=missing.candidate.spec in planned)
    if study.race:
        enqueue_rounds(optuna_study, again=again)
    held = list(filter(holds_task, optuna_study.get_trials(deepcopy=False)))
    return max(len(held), planned_size(study, plan) + sum(map(completes_others, held)))


@storage_errors()
def tasks_left(optuna_study: StoredStudy, study: Study, plan: Plan) -> tuple[tuple[Candidate, int], ...]:
    """The candidates that are not trained, queued or not, each with its number of seeds; one may come twice."""
    trials = optuna_study.get_trials(deepcopy=False)
    missing = lacking(trials, _wanted(trials, study, plan))
    unfinished = [trial for trial in trials if not trial.state.is_finished()]
    queued = [(candidate, len(seeds_of(trial))) for trial in unfinished if (candidate := candidate_of(trial))]
    return (*queued, *((trial.candidate, len(trial.seeds)) for trial in missing))


def _wanted(trials: Trials, study: Study, plan: Plan) -> list[PlannedTrial]:
    """The planned networks and the others in `trials`, each with the seeds that every candidate gets."""
    others: dict[ArchitectureSpec, Candidate] = {}
    for trial in filter(holds_task, trials):
        if (candidate := candidate_of(trial)) is not None:
            others.setdefault(candidate.spec, candidate)
    for planned in plan.distinct:
        others.pop(planned.candidate.spec, None)
    more = (PlannedTrial(candidate.shares, candidate, 0.0, first_seeds(study)) for candidate in others.values())
    return [*plan.distinct, *more]
