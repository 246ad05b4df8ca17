"""Designs: targets on the triangle and the feasible candidates nearest to them; the paper's grid."""

from __future__ import annotations

import dataclasses
import math
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.compound import Rounding, scale
from scalesearch.scaling.cost.budgeted import Cost
from scalesearch.scaling.feasible import InfeasibleBudget, feasible_set
from scalesearch.scaling.simplex import Shares, from_unit_square, lattice
from scalesearch.search.plan.design import Plan, make_plan, planned_size
from scalesearch.study.load import default_study_path, load_study
from scalesearch.study.sections import Study
from tests.planted import planted_study

STUDIES = Path(__file__).parents[2] / "studies"


def paper_grid(**design: object) -> Plan:
    """The grid of arXiv:1905.11946 §3.3 on B0 at B = 2, as `plan --design grid --nominal` makes it."""
    changes = {"baseline": {"name": "efficientnet-b0"}, "rounding": {}, "design.kind": "grid", "design.nominal": True}
    changes |= {f"design.{key}": value for key, value in design.items()}
    return make_plan(load_study(default_study_path(), changes))


def nearest_neighbours(points: tuple[Shares, ...]) -> np.ndarray:
    values = np.array([point.values for point in points])
    distances = np.linalg.norm(values[:, None] - values[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.min(axis=1)


def test_a_lattice_plans_the_nearest_feasible_network_of_each_point() -> None:
    study = planted_study()
    plan = make_plan(study)
    assert tuple(trial.target for trial in plan.trials) == lattice(4)
    assert len({trial.candidate.spec for trial in plan.trials}) == 15
    baseline = study.resolved_baseline()
    feasible = feasible_set(baseline.spec, baseline.rounding, 2.0, 0.02)
    distinct = feasible.without_twins()
    assert (plan.feasible, plan.computed, plan.counted) == (len(feasible), len(distinct), feasible.counted)
    for trial in plan.trials:
        assert abs(trial.candidate.cost_ratio / 2 - 1) <= 0.02
        distances = np.linalg.norm(distinct.shares - np.array(trial.target.values), axis=1)
        assert trial.distance == pytest.approx(math.dist(trial.target.values, trial.candidate.shares.values), abs=1e-12)
        # Nearest in shares, up to what a nearer cost is worth: at most 2 % of the cost, 0.02 / ln 2 in shares.
        assert trial.distance <= distances.min() + 0.02 / math.log(2) + 1e-9
        gaps = np.hypot(distances * math.log(2), np.log(distinct.cost_ratio / 2))
        gap = math.hypot(trial.distance * math.log(2), math.log(trial.candidate.cost_ratio / 2))
        assert gap == pytest.approx(gaps.min(), abs=1e-9)


def test_points_with_the_same_network_plan_it_once_for_the_nearest_of_them() -> None:
    study = planted_study(tolerance=0.001, design={"degree": 12})
    plan = make_plan(study)
    planned = {trial.candidate.spec: trial for trial in plan.trials}
    assert len(planned) == len(plan.trials) < len(lattice(12)) == 91
    baseline = study.resolved_baseline()
    distinct = feasible_set(baseline.spec, baseline.rounding, 2.0, 0.001).without_twins()
    logs = np.log(distinct.cost_ratio / 2)
    for point in lattice(12):
        gaps = np.hypot(np.linalg.norm(distinct.shares - np.array(point.values), axis=1) * math.log(2), logs)
        candidate = distinct.candidate(int(gaps.argmin()))
        assert planned[candidate.spec].distance <= math.dist(point.values, candidate.shares.values) + 1e-12


def test_qmc_depends_on_its_seed_and_is_in_the_triangle() -> None:
    def targets(seed: int) -> tuple[Shares, ...]:
        plan = make_plan(planted_study(design={"kind": "qmc", "size": 15, "seed": seed}))
        assert all(abs(trial.candidate.cost_ratio / 2 - 1) <= 0.02 for trial in plan.trials)
        return tuple(trial.target for trial in plan.trials)

    assert targets(3) == targets(3)
    assert not set(targets(3)) & set(targets(4))
    for point in targets(3):
        assert min(point.values) >= 0
        assert sum(point.values) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("size", [15, 30])
def test_qmc_is_more_even_than_random_points(size: int) -> None:
    random = [
        nearest_neighbours(from_unit_square(np.random.default_rng(seed).random((size, 2)))).mean()
        for seed in range(200)
    ]
    for seed in range(5):
        plan = make_plan(planted_study(design={"kind": "qmc", "size": size, "seed": seed}))
        # Clustered points have near neighbours. Measured: at or above the 95th percentile, seeds 0 to 20.
        assert nearest_neighbours(tuple(trial.target for trial in plan.trials)).mean() > np.quantile(random, 0.9)


def test_grid_snaps_its_points_to_networks_that_cost_the_budget() -> None:
    plan = make_plan(planted_study(design={"kind": "grid", "step": 0.1}))
    assert len(plan.trials) == len(plan.distinct) > 10
    for trial in plan.trials:
        assert abs(trial.candidate.cost_ratio / 2 - 1) <= 0.02


def test_the_papers_grid_has_109_points_and_65_networks_at_their_real_cost() -> None:
    plan = paper_grid()
    assert len(plan.trials) == 109
    assert len(plan.distinct) == len({trial.candidate.spec for trial in plan.trials}) == 65
    ratios = np.array([trial.candidate.cost_ratio for trial in plan.distinct])
    assert (round(ratios.min(), 2), round(ratios.max(), 2)) == (1.93, 3.33)
    points = np.array([trial.candidate.cost_ratio for trial in plan.trials])
    assert int((np.abs(points / 2 - 1) <= 0.1).sum()) == 12
    for trial in plan.trials:
        assert 1.9 - 1e-9 <= trial.candidate.nominal.product <= 2.1 + 1e-9
    published = [
        trial
        for trial in plan.trials
        if dataclasses.astuple(trial.candidate.nominal) == pytest.approx((1.2, 1.1, 1.15))
    ]
    assert [round(trial.candidate.cost_ratio, 2) for trial in published] == [2.57]


def test_nominal_grid_rounds_as_the_baselines_authors_do() -> None:
    b0 = baseline("efficientnet-b0")
    assert b0.rounding.depth == "ceil"
    for trial in paper_grid().trials:
        assert trial.candidate.spec == scale(b0.spec, trial.candidate.nominal, b0.rounding)


def test_grids_omit_the_baseline_and_points_that_round_back_to_it() -> None:
    # At B = 1.04 the baseline itself is within the band, and 1 % of width rounds away.
    changes = {
        "baseline": {"name": "efficientnet-b0"}, "rounding": {}, "budget": 1.04,
        "design.kind": "grid", "design.nominal": True, "design.step": 0.01,
    }  # fmt: skip
    plan = make_plan(load_study(default_study_path(), changes))
    assert plan.trials
    assert plan.baseline.spec not in {trial.candidate.spec for trial in plan.trials}
    assert make_plan(planted_study(budget=1.04, design={"kind": "grid", "step": 0.01})).trials


def test_a_grid_without_points_says_what_to_loosen() -> None:
    with pytest.raises(InfeasibleBudget, match=r"raise `design.band` to 0\.\d+, or lower `design.step`$") as caught:
        make_plan(planted_study(budget=1.5, design={"kind": "grid", "step": 0.22, "band": 0.001}))
    needed = float(str(caught.value).partition("`design.band` to ")[2].partition(",")[0])
    assert make_plan(planted_study(budget=1.5, design={"kind": "grid", "step": 0.22, "band": needed})).trials
    with pytest.raises(InfeasibleBudget, match=": lower `design.step`$"):
        make_plan(planted_study(budget=1.5, design={"kind": "grid", "step": 0.9, "band": 0.1}))


def test_a_grid_with_too_many_points_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="at most 2,000,000 points"):
        make_plan(planted_study(budget=1000.0, design={"kind": "grid", "step": 0.005}))


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"kind": "qmc", "size": 100_001}, "at most 100,000 points, but this one has 100,001"),
        (
            {"kind": "grid", "step": 0.005, "band": 0.5},
            "at most 100,000 points within its band, but",
        ),
        (
            {"kind": "grid", "step": 0.005, "nominal": True},
            "at most 20,000 points within its band, but",
        ),
    ],
)
def test_a_design_of_too_many_points_is_refused_before_it_is_planned(design: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(load_study("mnist_sample", {f"design.{key}": value for key, value in design.items()}))


@pytest.mark.long
def test_many_points_snap_to_the_networks_that_few_do() -> None:
    """Of 78,000 candidates 450 are looked up in a tree; a point alone is compared with all of them."""
    changes = {"design.kind": "qmc", "design.size": 450, "budget": 16.0}
    study = load_study(STUDIES / "efficientnet_b0.toml", changes)
    plan, found = make_plan(study), feasible_set(*_of(study)).without_twins()
    assert len(plan.trials) > 400
    for trial in plan.trials[::50]:
        assert found.nearest(trial.target, 16.0) == trial.candidate


def _of(study: Study) -> tuple[ArchitectureSpec, Rounding, float, float]:
    own = study.resolved_baseline()
    return own.spec, own.rounding, study.budget, study.tolerance


def test_an_adaptive_design_plans_no_trials_and_trains_at_most_all_networks() -> None:
    study = planted_study(design={"kind": "tpe", "size": 20})
    plan = make_plan(study)
    assert plan.trials == ()
    assert planned_size(study, plan) == 20
    assert planned_size(planted_study(design={"kind": "tpe", "size": 100_000}), plan) == plan.computed < plan.feasible
    assert planned_size(planted_study(), make_plan(planted_study())) == 15


def test_another_cost_than_macs_is_what_every_design_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    activations = Cost("activations", attrgetter("activations"), attrgetter("activations"))
    monkeypatch.setattr(Study, "cost", activations)
    for design in ({"kind": "lattice"}, {"kind": "grid", "step": 0.25, "band": 0.2, "nominal": True}):
        plan = make_plan(planted_study(design=design))
        base = activations.of(plan.baseline.spec)
        assert plan.distinct
        for trial in plan.distinct:
            assert trial.candidate.cost_ratio == activations.of(trial.candidate.spec) / base
