"""The rivals of a rule at a budget that it was not fitted on: networks of other splits at the same real macs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from scalesearch.baselines.efficientnet import PAPER
from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import shares_of
from scalesearch.scaling.feasible import MAX_BUDGET, feasible_set
from scalesearch.scaling.simplex import FAR, Shares
from scalesearch.search.plan.design import Plan, first_seeds, plan_of, snap
from scalesearch.search.plan.parts import derived
from scalesearch.study.sections import Study

RULE = "the rule"
# Shares (depth, width, resolution) of other rules: EfficientNet's own, arXiv:1905.11946 §3.3; EfficientNet-X B7's on
# TPU and GPU, arXiv:2102.05610; fast compound scaling d1-w8-r1, arXiv:2103.06877.
RIVALS: Mapping[str, Shares] = {
    "depth only": Shares(1.0, 0.0, 0.0),
    "width only": Shares(0.0, 1.0, 0.0),
    "resolution only": Shares(0.0, 0.0, 1.0),
    "equal shares": Shares(1 / 3, 1 / 3, 1 / 3),
    "EfficientNet": shares_of(PAPER),
    "EfficientNet-X TPU": Shares(0.27, 0.53, 0.20),
    "EfficientNet-X GPU": Shares(0.38, 0.42, 0.20),
    "fast (d1-w8-r1)": Shares(0.1, 0.8, 0.1),
}


def validation_study(study: Study, shares: Shares, phi: float, seeds: int) -> Study:
    """The study in which the rivals of `shares` train at φ: a budget of B^φ, one process, and a name of its own.

    Another φ, rule or number of seeds is another study. Raises `InputError` where B^φ is no budget.
    """
    if not 0 < phi * math.log(study.budget) <= math.log(MAX_BUDGET):
        raise InputError(f"the budget {study.budget:g}^φ must be above 1 and at most {MAX_BUDGET:,}, but φ is {phi:g}")
    # Rounded, so that another machine's last digits do not make another rule.
    asked = (round(float(phi), 9), [round(share, 9) for share in shares.values], seeds)
    told = hashlib.sha256(repr(asked).encode()).hexdigest()[:8]
    return derived(
        study,
        name=f"{study.name}-validate-{phi:g}-{told}",
        budget=study.budget**phi,
        seeds=seeds,
        race=False,
        prune=False,
        runtime={**study.runtime.model_dump(mode="json"), "workers": 1},
    )


def rivals(study: Study, shares: Shares) -> tuple[Plan, Mapping[ArchitectureSpec, tuple[str, ...]]]:
    """The networks nearest to the rule's `shares` and to each rival's that cost the budget of `study`, and their names.

    Splits that are one network on a coarse baseline share it; a name is marked ≈ where its network is more than
    `FAR` in shares away. Raises `InfeasibleBudget` where none costs the budget, `InputError` where all splits are one
    network.
    """
    baseline = study.resolved_baseline()
    found = feasible_set(baseline.spec, baseline.rounding, study.budget, study.tolerance, study.cost)
    alike = found.without_twins()
    targets = {RULE: shares, **RIVALS}
    trials = {name: snap(alike, target, study.budget, first_seeds(study)) for name, target in targets.items()}
    names: dict[ArchitectureSpec, tuple[str, ...]] = {}
    for name, trial in trials.items():
        told = name if trial.distance <= FAR or name == RULE else f"≈ {name}"
        names[trial.candidate.spec] = (*names.get(trial.candidate.spec, ()), told)
    if len(names) == 1:
        raise InputError(f"at {study.budget:g} × the baseline all splits are one network: a larger φ tells them apart")
    first = {trial.candidate.spec: trial for trial in reversed(trials.values())}
    return plan_of(study, found, tuple(first[spec] for spec in names)), names
