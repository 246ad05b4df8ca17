"""Searches that an earlier version planned, when shares were read off α, β and γ, and not off real cost."""

from __future__ import annotations

import math

import optuna

from scalesearch.errors import StudyMismatch
from scalesearch.scaling.split import split_cost
from scalesearch.search.queue.storage import storage_errors
from scalesearch.search.queue.trials import candidate_of
from scalesearch.study.sections import Study

# Trials whose stored shares are compared with those of real cost, and the distance that rounding errors explain.
_COMPARED, _SAME = 10, 1e-6


@storage_errors()
def has_earlier_shares(optuna_study: optuna.Study, study: Study) -> bool:
    """Whether an earlier version planned the trials of the stored `study`."""
    spec = study.resolved_baseline().spec
    # A network in a corner has the same shares either way, but no study begins with corners alone.
    first = map(candidate_of, optuna_study.get_trials(deepcopy=False)[:_COMPARED])
    return any(
        one is not None and math.dist(split_cost(spec, one.spec, study.cost).values, one.shares.values) > _SAME
        for one in first
    )


def no_further_candidates(name: str) -> StudyMismatch:
    """The error for such a search that is to plan more: two kinds of shares on one surface would mislead."""
    return StudyMismatch(
        f"the study {name!r} was made by a version of scalesearch that read shares off α, β and γ, not off real cost; "
        "it can train what it has planned, but no further candidates: use another run folder (`out`) to search"
    )
