"""A race: more seeds only for candidates that may be best, and new candidates where the surface is least certain."""

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

# At least this many candidates, the best, get another seed: without repetitions the noise is unknown.
LEAST = 4
# A candidate is near the optimum if the confidence region has a point within this distance in shares. A new candidate
# must be at least this far from all others. A third of the spacing of the {3, 4} lattice.
APART = 0.12
# At most this many feasible networks are considered for a new candidate.
_CONSIDERED = 5_000


def next_round(study: Study, plan: Plan, records: Sequence[TrialRecord]) -> tuple[PlannedTrial, ...]:
    """What a race trains after `records`; nothing if it is over.

    A round is one more seed for each candidate that may be best, at most the better half of all (as in successive
    halving, Jamieson and Talwalkar, arXiv:1502.07943), and one new candidate. The race is over if the choice is
    resolved; if all candidates that may be best have all their seeds and no new candidate is far enough from the
    others; or if it has cost as many trainings as all planned candidates with all seeds.
    """
    # The choice so far.
    trainings_left = len(plan.distinct) * study.seeds - sum(len(record.seeds) for record in records)
    candidates = candidates_table(records, study.budget, study.metric)
    try:
        choice = choose(trials_table(records), candidates, study.budget, study.metric)
    except InsufficientTrials:
        return ()
    if choice.signal.resolved:
        return ()

    # Another seed for the candidates that may be best; the table has the best first.
    finished = {number: record for number, record in merged_records(records).items() if record.failure is None}
    rows = candidates[candidates["candidate"].isin(finished) & candidates["seeds"].lt(study.seeds)]
    may_be_best = rows["tied"] & _near_optimum(choice, rows[SHARE_COLUMNS].to_numpy(float))
    racing = [finished[number] for number in rows.loc[may_be_best | (np.arange(len(rows)) < LEAST), "candidate"]]
    racing = racing[: max(LEAST, len(finished) // 2)]
    wanted = [_trial(record.candidate, (len(record.seeds),)) for record in racing]

    # A new candidate, with one seed more than the others have.
    new = _least_certain(choice, study, [record.candidate for record in finished.values()])
    if new is not None:
        most = max(len(record.seeds) for record in finished.values())
        wanted.append(_trial(new, tuple(range(min(most + 1, study.seeds)))))

    affordable = np.cumsum([len(trial.seeds) for trial in wanted]) <= trainings_left
    return tuple(trial for trial, fits in zip(wanted, affordable, strict=True) if fits)


def _trial(candidate: Candidate, seeds: tuple[int, ...]) -> PlannedTrial:
    return PlannedTrial(candidate.shares, candidate, 0.0, seeds)


def _near_optimum(choice: Choice, shares: FloatArray) -> NDArray[np.bool_]:
    """Which of `shares` (N, 3) are near a point of the confidence region; all of them without a surface."""
    if choice.region is None:
        return np.ones(len(shares), bool)
    return np.asarray(KDTree(choice.region.points).query(shares)[0] <= APART)


def _least_certain(choice: Choice, study: Study, trained: Sequence[Candidate]) -> Candidate | None:
    """The feasible network near the optimum, far from `trained`, with the least certain prediction, if any."""
    if choice.surface is None:
        return None
    baseline = study.resolved_baseline()
    feasible = feasible_set(baseline.spec, baseline.rounding, study.budget, study.tolerance, study.cost).without_twins()
    rows = np.unique(np.linspace(0, len(feasible) - 1, _CONSIDERED).astype(int))
    shares = feasible.shares[rows]
    trained_shares = np.array([candidate.shares.values for candidate in trained])
    distances = np.linalg.norm(shares[:, None] - trained_shares, axis=2).min(axis=1)
    eligible = (distances >= APART) & _near_optimum(choice, shares)
    if not eligible.any():
        return None
    error = np.where(eligible, choice.surface.standard_error(shares), -np.inf)
    return feasible.candidate(int(rows[error.argmax()]))
