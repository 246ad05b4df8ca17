"""A race: further seeds only for candidates that may still be best, new ones where the optimum is least certain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from scalesearch.analysis.choice import Choice, choose
from scalesearch.analysis.statistics import FloatArray
from scalesearch.analysis.surfaces.base import InsufficientTrials
from scalesearch.analysis.tables import SHARE_COLUMNS, candidates_table, trials_table
from scalesearch.results.records import TrialRecord, merged_records
from scalesearch.scaling.feasible import Candidate, feasible_set
from scalesearch.search.plan.design import Plan, PlannedTrial
from scalesearch.study.sections import Study

# The best so many go on in any case: without repetitions nobody knows the noise.
LEAST = 4
# A candidate is near the optimum if some point that may be it is so close in shares, and a new one is at least
# so far from all others: a third of the spacing of the {3, 4} lattice.
APART = 0.12
# Feasible networks looked at for a new candidate, at most.
_LOOKED_AT = 5_000


def next_round(study: Study, plan: Plan, records: Sequence[TrialRecord]) -> tuple[PlannedTrial, ...]:
    """What a race trains next, by the `records` so far; nothing where it is over.

    One more seed for each candidate that may still be best, at most the better half of all (as in successive halving,
    Jamieson and Talwalkar, arXiv:1502.07943), and one new candidate. It is over where the choice is
    resolved, where all that may be best have all their seeds and nothing new is far enough from what there is, and
    where as much is trained as all planned candidates with all seeds would be: a race never costs more than that.
    """
    left = len(plan.distinct) * study.seeds - sum(len(record.seeds) for record in records)
    candidates = candidates_table(records, study.budget, study.metric)
    try:
        choice = choose(trials_table(records), candidates, study.budget, study.metric)
    except InsufficientTrials:
        return ()
    if choice.signal.resolved:
        return ()
    done = {number: record for number, record in merged_records(records).items() if record.failure is None}
    best = candidates[candidates["candidate"].isin(done) & candidates["seeds"].lt(study.seeds)]
    may_be_best = best["tied"] & _near_optimum(choice, best[SHARE_COLUMNS].to_numpy(float))
    racing = [done[number] for number in best.loc[may_be_best | (np.arange(len(best)) < LEAST), "candidate"]]
    racing = racing[: max(LEAST, len(done) // 2)]  # the table's order: best first
    wanted = [_trial(record.candidate, (len(record.seeds),)) for record in racing]
    new = _least_certain(choice, study, [record.candidate for record in done.values()])
    if new is not None:
        most = max(len(record.seeds) for record in done.values())
        wanted.append(_trial(new, tuple(range(min(most + 1, study.seeds)))))
    affordable = np.cumsum([len(trial.seeds) for trial in wanted]) <= left
    return tuple(trial for trial, fits in zip(wanted, affordable, strict=True) if fits)


def _trial(candidate: Candidate, seeds: tuple[int, ...]) -> PlannedTrial:
    return PlannedTrial(candidate.shares, candidate, 0.0, seeds)


def _near_optimum(choice: Choice, shares: FloatArray) -> NDArray[np.bool_]:
    """Which of `shares` (N, 3) are near a point of the confidence region; all where no surface says anything."""
    if choice.region is None:
        return np.ones(len(shares), bool)
    return np.asarray(KDTree(choice.region.points).query(shares)[0] <= APART)


def _least_certain(choice: Choice, study: Study, trained: Sequence[Candidate]) -> Candidate | None:
    """Of the feasible networks near the optimum, the one whose value is least certain; or None."""
    if choice.surface is None:
        return None
    baseline = study.resolved_baseline()
    found = feasible_set(baseline.spec, baseline.rounding, study.budget, study.tolerance, study.cost).without_twins()
    rows = np.unique(np.linspace(0, len(found) - 1, _LOOKED_AT).astype(int))
    shares = found.shares[rows]
    known = np.array([candidate.shares.values for candidate in trained])
    apart = np.linalg.norm(shares[:, None] - known, axis=2).min(axis=1)
    worth = (apart >= APART) & _near_optimum(choice, shares)
    if not worth.any():
        return None
    error = np.where(worth, choice.surface.standard_error(shares), -np.inf)
    return found.candidate(int(rows[error.argmax()]))
