"""The corners of the triangle that a plan cannot reach."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.reachable import first_steps
from scalesearch.scaling.simplex import NAMES
from scalesearch.search.plan.design import Plan, make_plan
from scalesearch.study.sections import Study

# Larger tolerances that are tried to reach a corner; the surface's covariate corrects for the macs.
LOOSER = (0.03, 0.04, 0.05, 0.075, 0.1)
# With more networks than this that cost the budget, none is tried: it would take long.
MOST_TRIED = 300_000


def tolerance_for_corners(study: Study, plan: Plan) -> float | None:
    """The least tolerance of `LOOSER` with which the design of `study` reaches all corners; None if none does.

    The tolerance of `study` if its `plan` reaches them already. Corners of dimensions that cannot grow do not count.
    """
    stuck = cannot_grow(study, plan).keys()
    if not set(plan.unreached) - stuck:
        return study.tolerance
    for tolerance in (looser for looser in LOOSER if looser > study.tolerance):
        if not set(make_plan(study.model_copy(update={"tolerance": tolerance})).unreached) - stuck:
            return tolerance
    return None


def cannot_grow(study: Study, plan: Plan) -> Mapping[str, tuple[ArchitectureSpec, float] | None]:
    """The dimensions of which even the least growth exceeds the budget by more than any tolerance of `LOOSER`.

    With the network of that growth and its cost as a multiple of the baseline's; with None if nothing larger exists.
    A nominal grid has none: it takes networks at whatever they cost.
    """
    if study.design.nominal:
        return {}
    spec, baseline_cost = plan.baseline.spec, study.cost.of(plan.baseline.spec)
    highest = plan.budget * (1 + max(study.tolerance, *LOOSER))
    found: dict[str, tuple[ArchitectureSpec, float] | None] = {}
    for place, (name, step) in enumerate(zip(NAMES, first_steps(spec, plan.baseline.rounding), strict=True)):
        ratio = math.inf if step is None else study.cost.of(step) / baseline_cost
        # Rounding may narrow a stage that is off the divisor's grid, and so make room for growth.
        grown = any(astuple(trial.candidate.coefficients)[place] > 1 for trial in plan.trials)
        if ratio > highest and not grown:
            found[name] = None if step is None else (step, ratio)
    return found
