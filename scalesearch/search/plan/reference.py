"""The reference of a search: the baseline itself, trained on the same schedule and for the same seeds as candidates."""

from __future__ import annotations

from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.simplex import EQUAL
from scalesearch.search.plan.design import Plan, PlannedTrial, first_seeds
from scalesearch.search.plan.parts import derived
from scalesearch.search.plan.timing import predicted_seconds
from scalesearch.study.sections import Study

REFERENCE = "-baseline"
"""How the name under which a reference is stored ends."""


def reference_name(study: Study) -> str:
    """The name under which the reference of `study` is stored."""
    return f"{study.name}{REFERENCE}"


def reference_study(study: Study) -> Study:
    """The study that trains the reference of `study`, for all its seeds: also in a race, where finalists have them."""
    return derived(study, name=reference_name(study), race=False, prune=False)


def reference_plan(reference: Study) -> Plan:
    """The plan of a `reference_study`: one trial, the baseline."""
    baseline = reference.resolved_baseline()
    cost, once = complexity(baseline.spec), Coefficients(1.0, 1.0, 1.0)
    candidate = Candidate(baseline.spec, once, EQUAL, once, cost, 1.0)
    trial = PlannedTrial(EQUAL, candidate, 0.0, first_seeds(reference))
    return Plan(
        baseline=baseline,
        baseline_complexity=cost,
        budget=reference.budget,
        tolerance=reference.tolerance,
        combinations=1,
        counted=1,
        feasible=1,
        computed=1,
        trials=(trial,),
    )


def reference_seconds(study: Study) -> float | None:
    """Predicted seconds of training the reference of `study`; None if unknown (`timing.predicted_seconds`)."""
    reference = reference_study(study)
    return predicted_seconds(reference, [trial.candidate for trial in reference_plan(reference).trials])
