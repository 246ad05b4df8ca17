"""The rivals of a rule at a budget that it was not fitted on: networks of other splits with the same real cost."""

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
# Shares (depth, width, resolution) of other rules: EfficientNet, arXiv:1905.11946 §3.3; EfficientNet-X B7 on
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
    """The study that trains the rule's `shares` and its rivals at φ: the budget is B^φ, in one process.

    Its name depends on φ, the rule and the number of seeds. Raises `InputError` if B^φ is not a valid budget.
    """
    if not 0 < phi * math.log(study.budget) <= math.log(MAX_BUDGET):
        raise InputError(f"the budget {study.budget:g}^φ must be above 1 and at most {MAX_BUDGET:,}, but φ is {phi:g}")
    # Rounded, so that the last digits of another machine do not change the name.
    key = (round(float(phi), 9), [round(share, 9) for share in shares.values], seeds)
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:8]
    return derived(
        study,
        name=f"{study.name}-validate-{phi:g}-{digest}",
        budget=study.budget**phi,
        seeds=seeds,
        race=False,
        prune=False,
        runtime={**study.runtime.model_dump(mode="json"), "workers": 1},
    )


def rivals(study: Study, shares: Shares) -> tuple[Plan, Mapping[ArchitectureSpec, tuple[str, ...]]]:
    """A plan to train the networks nearest to the rule's `shares` and to its rivals, and the names of each network.

    All of them cost the budget of `study`. Splits that give the same network share it. A name is marked ≈ if its
    network is more than `FAR` away in shares.

    Raises:
        InfeasibleBudget: if no network costs the budget.
        InputError: if all splits give the same network.
    """
    baseline = study.resolved_baseline()
    feasible = feasible_set(baseline.spec, baseline.rounding, study.budget, study.tolerance, study.cost)
    distinct = feasible.without_twins()
    targets = {RULE: shares, **RIVALS}
    trials = {name: snap(distinct, target, study.budget, first_seeds(study)) for name, target in targets.items()}
    names: dict[ArchitectureSpec, tuple[str, ...]] = {}
    for name, trial in trials.items():
        marked = name if trial.distance <= FAR or name == RULE else f"≈ {name}"
        names[trial.candidate.spec] = (*names.get(trial.candidate.spec, ()), marked)
    if len(names) == 1:
        raise InputError(f"at {study.budget:g} × the baseline all splits give the same network: use a larger φ")
    first = {trial.candidate.spec: trial for trial in reversed(trials.values())}
    return plan_of(study, feasible, tuple(first[spec] for spec in names)), names
