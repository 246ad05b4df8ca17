"""Designs: which feasible candidates a search trains, laid out before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace

import numpy as np

from scalesearch.errors import InputError
from scalesearch.scaling.coefficients import Coefficients, shares_of
from scalesearch.scaling.compound import Baseline, scale
from scalesearch.scaling.cost.count import Complexity, FloatArray, complexity
from scalesearch.scaling.feasible import (
    Candidate,
    FeasibleSet,
    InfeasibleBudget,
    candidate_of,
    check_budget,
    feasible_set,
)
from scalesearch.scaling.simplex import FAR, NAMES, Shares, from_unit_square, lattice
from scalesearch.study.sections import DesignSection, Study

# Grid points looked at, at most.
MAX_GRID = 2_000_000
# Tolerances that are tried to reach a corner; the surface's covariate allows for the macs.
LOOSER = (0.03, 0.04, 0.05, 0.075, 0.1)
# Candidates that pruning should leave: a quadratic surface has six terms, the macs one more.
UNPRUNED = 10


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A candidate to train for `seeds`: the shares that the design asked for, and what stands for them.

    `distance` is the Euclidean distance between asked and realised shares.
    """

    target: Shares
    candidate: Candidate
    distance: float
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study would train. Of `combinations` networks `counted` were counted, `feasible` of these cost the budget.

    Of the feasible ones, `computed` differ in more than a resolution with the same maps. In a nominal grid these
    are its points, all of them counted, and those whose product is the budget within the band; `trials` lists every
    such point that grows. Otherwise `trials` holds no two of the same network. An adaptive design (`tpe`)
    has no planned trials.
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
        """The dimensions whose corner, all of the budget, no planned candidate is near (`FAR`)."""
        if not self.trials:
            return ()
        shares = np.array([trial.candidate.shares.values for trial in self.trials])
        nearest = np.linalg.norm(shares[:, None] - np.eye(3), axis=2).min(axis=0)
        return tuple(name for name, distance in zip(NAMES, nearest.tolist(), strict=True) if distance > FAR)

    @property
    def distinct(self) -> tuple[PlannedTrial, ...]:
        """The trials without twins."""
        return _without_twins(self.trials)


def make_plan(study: Study) -> Plan:
    """The plan of `study`. Raises `InfeasibleBudget` where no network costs the budget.

    Where it prunes, the trials are in random order: a candidate is compared with those before it.
    """
    made = _plan(study)
    if not study.prune:
        return made
    order = np.random.default_rng(study.design.seed).permutation(len(made.trials))
    return replace(made, trials=tuple(made.trials[place] for place in order))


def _plan(study: Study) -> Plan:
    check_budget(study.budget, study.tolerance)
    baseline, design = study.resolved_baseline(), study.design
    cost, seeds = complexity(baseline.spec), first_seeds(study)
    if design.kind == "grid" and design.nominal:
        points, counted = grid(study.budget, design)
        rounded = (_as_it_rounds(baseline, study.cost.of(baseline.spec), point, seeds) for point in points)
        trials = tuple(trial for trial in rounded if trial is not None)
        return Plan(baseline, cost, study.budget, design.band, counted, counted, len(points), len(points), trials)
    found = feasible_set(baseline.spec, baseline.rounding, study.budget, study.tolerance, study.cost)
    alike = found.without_twins()
    snapped = (snap(alike, target, study.budget, seeds) for target in _targets(study.budget, design))
    return plan_of(study, found, _without_twins(snapped))


def first_seeds(study: Study) -> tuple[int, ...]:
    """The seeds that every planned candidate trains for: all or, in a race, the first."""
    return tuple(range(1 if study.race else study.seeds))


def plan_of(study: Study, found: FeasibleSet, trials: tuple[PlannedTrial, ...]) -> Plan:
    """The plan to train `trials`, which are of the set `found` for `study`."""
    baseline = study.resolved_baseline()
    return Plan(
        baseline=baseline,
        baseline_complexity=complexity(baseline.spec),
        budget=study.budget,
        tolerance=study.tolerance,
        combinations=found.combinations,
        counted=found.counted,
        feasible=len(found),
        computed=len(found.without_twins()),
        trials=trials,
    )


def reaching(study: Study, made: Plan) -> float | None:
    """The least of some greater tolerances with which the design comes near all corners; None where none does."""
    if not made.unreached:
        return study.tolerance
    for tolerance in (looser for looser in LOOSER if looser > study.tolerance):
        if not make_plan(study.model_copy(update={"tolerance": tolerance})).unreached:
            return tolerance
    return None


def planned_size(study: Study, plan: Plan) -> int:
    """How many networks the study trains: those planned or, in an adaptive design, its size or all there are."""
    return len(plan.distinct) or min(study.design.size, plan.computed)


def halvings(study: Study, plan: Plan) -> int:
    """How often a study that prunes halves its candidates: as often as leaves about `UNPRUNED`, at least once."""
    return max(1, math.floor(math.log2(planned_size(study, plan) / UNPRUNED)))


def _targets(budget: float, design: DesignSection) -> tuple[Shares, ...]:
    if design.kind == "lattice":
        return lattice(design.degree)
    if design.kind == "grid":
        return tuple(shares_of(point) for point in grid(budget, design)[0])
    if design.kind == "qmc":
        return from_unit_square(_low_discrepancy(design.size, design.seed))
    return ()


def grid(budget: float, design: DesignSection) -> tuple[tuple[Coefficients, ...], int]:
    """The paper's grid, arXiv:1905.11946 §3.3: points whose product α·β²·γ² lies within `band` of the budget.

    α runs from 1 to B, β and γ from 1 to √B, which is all that the budget buys each alone. Also returns
    the number of all points looked at. Raises `InputError` for a grid of more than `MAX_GRID` points, and
    `InfeasibleBudget` where none is kept.
    """
    alpha, side = _axis(budget, design.step), _axis(math.sqrt(budget), design.step)
    looked_at = len(alpha) * len(side) ** 2
    if looked_at > MAX_GRID:
        raise InputError(
            f"a grid must have at most {MAX_GRID:,} points, but `design.step` {design.step:g} at budget {budget:g} "
            f"gives {looked_at:,}: raise the step, or take the lattice"
        )
    product = alpha[:, None, None] * (side**2)[:, None] * side**2
    deviation = np.abs(product / budget - 1)
    deviation[0, 0, 0] = math.inf  # the baseline has no shares
    kept = np.argwhere(deviation <= design.band + 1e-9).tolist()
    if not kept:
        needed = math.ceil(float(deviation.min()) * 1e4) / 1e4 if np.isfinite(deviation).any() else math.inf
        raise InfeasibleBudget(
            f"a grid needs a point with α·β²·γ² within {design.band:.2%} of {budget:g}, but none of the {looked_at:,} "
            f"with `design.step` {design.step:g} is: "
            + (f"raise `design.band` to {needed:g}, or lower `design.step`" if needed < 1 else "lower `design.step`")
        )
    points = tuple(Coefficients(float(alpha[a]), float(side[b]), float(side[c])) for a, b, c in kept)
    return points, looked_at


def _axis(highest: float, step: float) -> FloatArray:
    return np.asarray(1 + step * np.arange(math.floor((highest - 1) / step + 1e-9) + 1, dtype=np.float64))


def _as_it_rounds(
    baseline: Baseline, baseline_cost: int, point: Coefficients, seeds: tuple[int, ...]
) -> PlannedTrial | None:
    """The network of a grid point at its real cost; None where rounding takes it back to the baseline or below."""
    spec = scale(baseline.spec, point, baseline.rounding)
    candidate = candidate_of(baseline.spec, baseline_cost, spec, point)
    grown = astuple(candidate.coefficients)
    if min(grown) < 1 - 1e-9 or max(grown) < 1 + 1e-9:
        return None
    target = shares_of(point)
    return PlannedTrial(target, candidate, math.dist(target.values, candidate.shares.values), seeds)


def _low_discrepancy(size: int, seed: int) -> FloatArray:
    """`size` points of the unit square by the additive recurrence of the plastic number, shifted by `seed`.

    Source: Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018), R₂.
    """
    plastic = 1.32471795724474602596
    shift = np.random.default_rng(seed).random(2)
    steps = np.arange(1, size + 1)[:, None] * np.array([1 / plastic, 1 / plastic**2])
    return np.asarray((shift + steps) % 1.0)


def snap(found: FeasibleSet, target: Shares, budget: float, seeds: tuple[int, ...]) -> PlannedTrial:
    """The feasible candidate nearest to `target`, as `FeasibleSet.nearest` measures it, to be trained for `seeds`."""
    candidate = found.nearest(target, budget)
    return PlannedTrial(target, candidate, math.dist(target.values, candidate.shares.values), seeds)


def _without_twins(trials: Iterable[PlannedTrial]) -> tuple[PlannedTrial, ...]:
    """Of the trials of one network, the one nearest to what was asked for."""
    nearest: dict[object, PlannedTrial] = {}
    for trial in trials:
        known = nearest.setdefault(trial.candidate.spec, trial)
        if trial.distance < known.distance:
            nearest[trial.candidate.spec] = trial
    return tuple(nearest.values())
