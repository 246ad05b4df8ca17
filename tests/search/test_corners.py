"""Corners of the triangle: what is said of those that a plan cannot reach, or reaches with shares that mislead."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scalesearch.report.views.plan import cautions
from scalesearch.search.plan.corners import cannot_grow, misleading, tolerance_for_corners
from scalesearch.search.plan.design import make_plan
from scalesearch.study.load import default_study_path, load_study
from scalesearch.study.sections import Study
from tests.planted import planted_study


def test_corners_without_a_near_candidate_are_named_with_the_tolerance_that_reaches_them() -> None:
    study = load_study(default_study_path(), {"tolerance": 0.02})
    plan = make_plan(study)
    shares = np.array([trial.candidate.shares.values for trial in plan.trials])
    assert [np.linalg.norm(shares - corner, axis=1).min() > 0.15 for corner in np.eye(3)] == [True, False, True]
    assert plan.unreached == ("depth", "resolution")
    assert tolerance_for_corners(study, plan) == 0.05
    assert make_plan(study.model_copy(update={"tolerance": 0.04})).unreached == ("resolution",)
    wider = study.model_copy(update={"tolerance": 0.05})
    assert make_plan(wider).unreached == ()
    assert tolerance_for_corners(wider, make_plan(wider)) == 0.05
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


def test_a_corner_whose_shares_are_not_those_of_real_cost_is_named() -> None:
    """ResNet-18 at 32 px: 34 px are all of the growth in resolution, but little of it."""
    study = small("resnet-18", tolerance=0.1)
    plan = make_plan(study)
    assert plan.unreached == ()
    assert {name: candidate.spec.resolution for name, candidate in misleading(plan).items()} == {"resolution": 34}
    (caution,) = cautions(study, plan)
    assert caution == (
        "Near all resolution the shares are not those of real cost: 34 px cost 2.17× where α·β²·γ² is 1.13, and a rule "
        "of all resolution would give 45 px at 2.63×"
    )
    assert misleading(make_plan(planted_study())) == {}
