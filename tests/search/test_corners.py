"""Corners of the triangle: what is said of those that a plan cannot reach."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scalesearch.report.views.plan import cautions
from scalesearch.search.plan.corners import cannot_grow, tolerance_for_corners
from scalesearch.search.plan.design import make_plan
from scalesearch.study.load import default_study_path, load_study
from scalesearch.study.sections import Study
from tests.planted import planted_study


def test_corners_without_a_near_candidate_are_named_with_the_tolerance_that_reaches_them() -> None:
    study = load_study(default_study_path(), {"tolerance": 0.015})
    plan = make_plan(study)
    shares = np.array([trial.candidate.shares.values for trial in plan.trials])
    assert [np.linalg.norm(shares - corner, axis=1).min() > 0.15 for corner in np.eye(3)] == [False, False, True]
    assert plan.unreached == ("resolution",)
    assert tolerance_for_corners(study, plan) == 0.03
    (caution,) = cautions(study, plan)
    assert caution == (
        "No candidate is near all resolution (at most 74.3 %, 18 px): an optimum there would be an extrapolation "
        "(--tolerance 0.03 reaches it)"
    )
    assert make_plan(study.model_copy(update={"tolerance": 0.01})).unreached == ("resolution",)
    wider = study.model_copy(update={"tolerance": 0.03})
    assert make_plan(wider).unreached == ()
    assert tolerance_for_corners(wider, make_plan(wider)) == 0.03
    assert dataclasses.replace(plan, trials=()).unreached == ()
    assert make_plan(planted_study(tolerance=0.02)).unreached == ()


def small(name: str, **changes: object) -> Study:
    """The default study with a published baseline at 32 px."""
    section = {"name": name, "resolution": 32, "num_classes": 10}
    return load_study(default_study_path(), {"baseline": section, "rounding": {}, "tolerance": 0.02, **changes})


def test_a_dimension_that_cannot_grow_is_named_with_what_its_least_growth_costs() -> None:
    """EfficientNet-B0 at 32 px: every stride makes a map of 33 px larger by a whole row."""
    study = small("efficientnet-b0")
    plan = make_plan(study)
    step, ratio = cannot_grow(study, plan)["resolution"] or pytest.fail("there is a larger resolution")
    assert (step.resolution, round(ratio, 2)) == (33, 2.41)
    assert plan.unreached == ("resolution",)
    (caution,) = cautions(study, plan)
    assert caution == (
        "Resolution cannot grow within the budget: 33 px cost 2.41×. To search it, take a larger budget or a baseline "
        "of higher resolution or smaller strides"
    )
    less = small("efficientnet-b0", **{"budget": 1.2, "rounding.depth": "ceil", "tolerance": 0.05})
    assert [caution.partition(" cost ")[0] for caution in cautions(less, make_plan(less))] == [
        "Depth cannot grow within the budget: 23 blocks",
        "Resolution cannot grow within the budget: 33 px",
    ]
    more = small("efficientnet-b0", budget=3.0)
    assert cannot_grow(more, make_plan(more)) == {}


def test_a_small_step_in_pixels_that_costs_the_budget_is_a_corner() -> None:
    """ResNet-18 at 32 px: 34 px cost 2.17 times as much, and nothing else has grown."""
    study = small("resnet-18", tolerance=0.1)
    plan = make_plan(study)
    (corner,) = (trial.candidate for trial in plan.trials if trial.target.resolution == 1)
    assert (corner.spec.resolution, corner.shares.values) == (34, (0.0, 0.0, 1.0))
    assert corner.coefficients.product == pytest.approx(34**2 / 32**2)
    assert plan.unreached == ()
    assert cautions(study, plan) == ()
