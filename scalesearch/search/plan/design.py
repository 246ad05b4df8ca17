"""Designs: which feasible candidates a study trains, decided before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients, shares_of
from scalesearch.scaling.compound import Baseline, scale
from scalesearch.scaling.cost.budgeted import Cost
from scalesearch.scaling.cost.count import Complexity, FloatArray, complexity
from scalesearch.scaling.feasible import (
    Candidate,
    FeasibleSet,
    candidate_of,
    check_budget,
    feasible_set,
)
from scalesearch.scaling.simplex import FAR, NAMES, Shares, from_unit_square, lattice
from scalesearch.scaling.split import split_cost
from scalesearch.search.plan.grid import grid
from scalesearch.study.sections import DesignSection, Study

# Number of candidates that pruning should leave: a quadratic surface has six terms, and the macs ratio is one more.
UNPRUNED = 10
# Points of a design, and networks to train, at most.
MOST_POINTS, MOST_CANDIDATES = 100_000, 3_000
# Distances between points and candidates that are computed one by one; with more, a tree of the candidates is faster.
_MOST_DISTANCES = 30_000_000
_AS_NEAR = 1e-9


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A candidate to train.

    Attributes:
        target: the shares that the design asks for.
        candidate: the candidate that stands for them.
        distance: Euclidean distance between the target and the candidate's shares of real cost.
        seeds: the seeds to train it for.
    """

    target: Shares
    candidate: Candidate
    distance: float
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study would train.

    In a nominal grid the numbers are those of grid points: all of them are counted, and those whose product is the
    budget within the band are feasible; `trials` has all of these that are larger than the baseline.

    Attributes:
        baseline: the baseline.
        baseline_complexity: its exact complexity.
        budget: the budget B.
        tolerance: relative tolerance of the budget.
        combinations: number of networks that could be formed.
        counted: number of those whose cost was counted.
        feasible: number of those that cost the budget.
        computed: number of those that differ in more than a resolution with the same maps.
        trials: what to train. Except in a nominal grid, no network is repeated. Empty in an adaptive design (`tpe`).
    """

    baseline: Baseline
    baseline_complexity: Complexity
    budget: float
    tolerance: float
    combinations: int
    counted: int
    feasible: int
    computed: int
    trials: tuple[PlannedTrial, ...]

    @property
    def unreached(self) -> tuple[str, ...]:
        """The dimensions whose corner (all of the budget) has no planned candidate within `FAR`."""
        if not self.trials:
            return ()
        shares = np.array([trial.candidate.shares.values for trial in self.trials])
        nearest = np.linalg.norm(shares[:, None] - np.eye(3), axis=2).min(axis=0)
        return tuple(name for name, distance in zip(NAMES, nearest.tolist(), strict=True) if distance > FAR)

    @property
    def distinct(self) -> tuple[PlannedTrial, ...]:
        """The trials without repeated networks."""
        return _without_repeats(self.trials)


def make_plan(study: Study) -> Plan:
    """The plan of `study`.

    In a study that prunes, the trials are in random order, since each candidate is compared with those before it.

    Raises:
        InfeasibleBudget: if no network costs the budget.
    """
    plan = _plan(study)
    if not study.prune:
        return plan
    order = np.random.default_rng(study.design.seed).permutation(len(plan.trials))
    return replace(plan, trials=tuple(plan.trials[place] for place in order))


def _plan(study: Study) -> Plan:
    check_budget(study.budget, study.tolerance)
    baseline, design = study.resolved_baseline(), study.design
    cost, seeds = complexity(baseline.spec), first_seeds(study)

    # A nominal grid takes its points as they round, whatever they cost.
    if design.kind == "grid" and design.nominal:
        points, counted = grid(study.budget, design)
        trials = tuple(_rounded(baseline, study.cost, points, seeds))
        return Plan(baseline, cost, study.budget, design.band, counted, counted, len(points), len(points), trials)

    # Any other design takes the feasible candidates nearest to its points.
    feasible = feasible_set(baseline.spec, baseline.rounding, study.budget, study.tolerance, study.cost)
    distinct = feasible.without_twins()
    targets = _targets(study.budget, design)
    rows = _nearest_rows(distinct, targets, study.budget)
    _refuse_more(len(set(rows)), MOST_CANDIDATES, "networks")
    candidates = {row: distinct.candidate(row) for row in dict.fromkeys(rows)}
    snapped = (_planned(target, candidates[row], seeds) for target, row in zip(targets, rows, strict=True))
    return plan_of(study, feasible, _without_repeats(snapped))


def first_seeds(study: Study) -> tuple[int, ...]:
    """The seeds that every planned candidate is trained for: all of them or, in a race, the first."""
    return tuple(range(1 if study.race else study.seeds))


def plan_of(study: Study, feasible: FeasibleSet, trials: tuple[PlannedTrial, ...]) -> Plan:
    """The plan of `study` to train `trials`, which are from its `feasible` set."""
    baseline = study.resolved_baseline()
    return Plan(
        baseline=baseline,
        baseline_complexity=complexity(baseline.spec),
        budget=study.budget,
        tolerance=study.tolerance,
        combinations=feasible.combinations,
        counted=feasible.counted,
        feasible=len(feasible),
        computed=len(feasible.without_twins()),
        trials=trials,
    )


def planned_size(study: Study, plan: Plan) -> int:
    """Number of networks that the study trains: all planned ones or, in an adaptive design, its size."""
    return len(plan.distinct) or min(study.design.size, plan.computed)


def halvings(study: Study, plan: Plan) -> int:
    """How often a study that prunes halves its candidates: until about `UNPRUNED` are left, but at least once."""
    return max(1, math.floor(math.log2(planned_size(study, plan) / UNPRUNED)))


def _targets(budget: float, design: DesignSection) -> tuple[Shares, ...]:
    if design.kind == "lattice":
        return lattice(design.degree)
    if design.kind == "grid":
        return tuple(shares_of(point) for point in grid(budget, design)[0])
    if design.kind == "qmc":
        _refuse_more(design.size, MOST_POINTS, "points")
        return from_unit_square(_low_discrepancy(design.size, design.seed))
    return ()


def _refuse_more(count: int, most: int, what: str) -> None:
    if count > most:
        raise InputError(
            f"a design must have at most {most:,} {what}, but this one has {count:,}: lower `design.size` or raise "
            "`design.step`, or take the lattice"
        )


def _rounded(
    baseline: Baseline, cost: Cost, points: Sequence[Coefficients], seeds: tuple[int, ...]
) -> Iterator[PlannedTrial]:
    """The networks of grid points at their real cost, but for those that rounding makes no larger than the baseline.

    Many points round to the same network, which is counted once.
    """
    baseline_cost, counted = cost.of(baseline.spec), dict[ArchitectureSpec, Candidate]()
    for point in points:
        spec = scale(baseline.spec, point, baseline.rounding)
        if spec not in counted:
            _refuse_more(len(counted) + 1, MOST_CANDIDATES, "networks")
            shares = split_cost(baseline.spec, spec, cost)
            counted[spec] = candidate_of(baseline.spec, baseline.rounding, baseline_cost, spec, point, shares, cost)
        candidate = replace(counted[spec], nominal=point)
        grown = astuple(candidate.coefficients)
        if not (min(grown) < 1 - 1e-9 or max(grown) < 1 + 1e-9):
            yield _planned(shares_of(point), candidate, seeds)


def _low_discrepancy(size: int, seed: int) -> FloatArray:
    """`size` points of the unit square by the additive recurrence of the plastic number, shifted by `seed`.

    Source: Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018), R₂.
    """
    plastic = 1.32471795724474602596
    shift = np.random.default_rng(seed).random(2)
    steps = np.arange(1, size + 1)[:, None] * np.array([1 / plastic, 1 / plastic**2])
    return np.asarray((shift + steps) % 1.0)


def snap(feasible: FeasibleSet, target: Shares, budget: float, seeds: tuple[int, ...]) -> PlannedTrial:
    """The feasible candidate nearest to `target` (by `FeasibleSet.nearest`), to be trained for `seeds`."""
    return _planned(target, feasible.nearest(target, budget), seeds)


def _nearest_rows(feasible: FeasibleSet, targets: Sequence[Shares], budget: float) -> list[int]:
    """For each of `targets` the row of the candidate that `FeasibleSet.nearest` gives."""
    if len(targets) * len(feasible) <= _MOST_DISTANCES:
        return [int(feasible.log_distances(target, budget).argmin()) for target in targets]
    from scipy.spatial import KDTree  # which the plan of a few candidates need not wait for

    scale = math.log(budget)
    tree = KDTree(np.column_stack([feasible.shares * scale, np.log(feasible.cost_ratio / budget)]))
    points = np.zeros((len(targets), 4))
    points[:, :3] = np.array([target.values for target in targets]) * scale
    distances, rows = tree.query(points, k=2)
    nearest = np.asarray(rows[:, 0])
    # Where two are as near, but for rounding errors, they are compared as elsewhere.
    for place in np.flatnonzero(distances[:, 1] - distances[:, 0] <= _AS_NEAR * (1 + distances[:, 1])):
        radius = float(distances[place, 1]) * (1 + _AS_NEAR) + _AS_NEAR
        near = np.sort(np.array(tree.query_ball_point(points[place], radius), np.intp))
        part = replace(
            feasible, index=feasible.index[near], shares=feasible.shares[near], cost_ratio=feasible.cost_ratio[near]
        )
        nearest[place] = near[part.log_distances(targets[int(place)], budget).argmin()]
    return [int(row) for row in nearest]


def _planned(target: Shares, candidate: Candidate, seeds: tuple[int, ...]) -> PlannedTrial:
    return PlannedTrial(target, candidate, math.dist(target.values, candidate.shares.values), seeds)


def _without_repeats(trials: Iterable[PlannedTrial]) -> tuple[PlannedTrial, ...]:
    """One trial for each network: the one that is nearest to its target."""
    nearest: dict[object, PlannedTrial] = {}
    for trial in trials:
        best = nearest.setdefault(trial.candidate.spec, trial)
        if trial.distance < best.distance:
            nearest[trial.candidate.spec] = trial
    return tuple(nearest.values())
