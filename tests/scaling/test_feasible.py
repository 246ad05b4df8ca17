"""The feasible set against a brute-force sweep of multipliers, and its promises for every baseline and budget."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalesearch.baselines.published import NAMES, baseline
from scalesearch.errors import InputError
from scalesearch.scaling import feasible
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.compound import (
    DepthRounding,
    EndRounding,
    HeadRounding,
    Rounding,
    StemRounding,
    round_depths,
    round_resolution,
    round_widths,
    scale,
    spread_depth,
)
from scalesearch.scaling.cost.count import areas, complexity
from scalesearch.scaling.feasible import FeasibleSet, InfeasibleBudget, feasible_set, realised
from scalesearch.scaling.reachable import reachable
from scalesearch.scaling.split import split_cost
from scalesearch.scaling.stage import make_stage

DEPTHS = get_args(DepthRounding)


def _network(depths: tuple[int, ...], widths: tuple[int, ...], resolution: int, head: int = 0) -> ArchitectureSpec:
    stages = tuple(
        make_stage("separable", kernel_size=3, stride=1 + index % 2, expand_ratio=1, width=width, depth=depth)
        for index, (depth, width) in enumerate(zip(depths, widths, strict=True))
    )
    return ArchitectureSpec(resolution, 1, 2, StemSpec(8, 3, 1), stages, head)


def _geometric_growth(base: ArchitectureSpec, widths: tuple[int, ...]) -> int:
    """The sign of the geometric mean's growth, in whole numbers."""
    grown, own = math.prod(widths[1:-1]), math.prod(base.widths[1:-1])
    return (grown > own) - (grown < own)


def _sweep(
    base: ArchitectureSpec, rounding: Rounding, budget: float, tolerance: float, step: float
) -> set[ArchitectureSpec]:
    """Every network that some multiplier of a dense, even sweep rounds to, and whose macs are within the tolerance."""
    own = complexity(base).macs

    def multipliers() -> Iterator[float]:
        return (1 + index * step for index in itertools.count())

    def affordable(spec: ArchitectureSpec) -> bool:
        # Rounding takes at most a tenth of a width, so a fifth of a cost: half as much again is a wide margin.
        return complexity(spec).macs <= 1.5 * own * budget * (1 + tolerance)

    def reached(scaled: Callable[[float], ArchitectureSpec]) -> dict[ArchitectureSpec, None]:
        return dict.fromkeys(itertools.takewhile(affordable, map(scaled, multipliers())))

    sizes = base.depths, base.widths, base.resolution
    depths = reached(
        lambda alpha: base.with_sizes(
            round_depths(sizes[0], alpha, rounding.depth, rounding.first_last_depth), *sizes[1:]
        )
    )
    widths = reached(lambda beta: base.with_sizes(sizes[0], round_widths(sizes[1], beta, rounding), sizes[2]))
    resolutions = reached(
        lambda gamma: base.with_sizes(*sizes[:2], round_resolution(sizes[2], gamma, rounding.resolution_step))
    )
    found = set()
    for by_depth, by_width, by_size in itertools.product(depths, widths, resolutions):
        depth, width, size = by_depth.depths, by_width.widths, by_size.resolution
        growth = _geometric_growth(base, width)
        if growth < 0 or size < base.resolution:
            continue
        if growth == 0 and sum(depth) == sum(base.depths) and size == base.resolution:
            continue
        spec = base.with_sizes(depth, width, size)
        if abs(complexity(spec).macs / (own * budget) - 1) <= tolerance:
            found.add(spec)
    return found


def _found(base: ArchitectureSpec, rounding: Rounding, budget: float, tolerance: float) -> list[ArchitectureSpec]:
    """The specs of the feasible set, none for an infeasible budget; each one's promises are checked."""
    try:
        found = feasible_set(base, rounding, budget, tolerance)
    except InfeasibleBudget:
        return []
    specs = []
    for row in range(len(found)):
        candidate = found.candidate(row)
        assert scale(base, candidate.nominal, rounding) == candidate.spec
        assert min(dataclasses.astuple(candidate.nominal)) >= 1
        # A geometric mean of 1 carries a few units in the last place.
        assert min(dataclasses.astuple(candidate.coefficients)) >= 1 - 1e-12
        assert candidate.complexity == complexity(candidate.spec)
        assert candidate.cost_ratio == candidate.complexity.macs / complexity(base).macs
        assert abs(candidate.cost_ratio / budget - 1) <= tolerance + 1e-12
        assert found.cost_ratio[row] == pytest.approx(candidate.cost_ratio, rel=1e-12)
        assert candidate.shares.values == pytest.approx(split_cost(base, candidate.spec).values, abs=1e-12)
        specs.append(candidate.spec)
    return specs


@pytest.mark.parametrize(
    ("budget", "divisor", "step"), [(1.01, 8, 4), (1.5, 8, 4), (2, 8, 4), (4, 12, 8), (16, 32, 16)]
)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("stem", "head"), [("scaled", "scaled"), ("fixed", "grows")])
def test_the_set_is_that_of_a_dense_sweep(
    budget: float, divisor: int, step: int, depth: DepthRounding, stem: StemRounding, head: HeadRounding
) -> None:
    base = _network((1, 2), (8, 20), 11, head=16)
    rounding = Rounding(divisor, depth, step, stem, head)
    found = _found(base, rounding, budget, 0.05)
    assert len(set(found)) == len(found)
    assert set(found) == _sweep(base, rounding, budget, 0.05, step=1 / 64)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("depths", "widths"), [("fixed", "scaled"), ("scaled", "fixed"), ("fixed", "fixed")])
def test_stages_that_stay_fixed_count_in_no_coefficient(
    depth: DepthRounding, depths: EndRounding, widths: EndRounding
) -> None:
    base = _network((1, 2, 1), (8, 20, 8), 11, head=16)
    rounding = Rounding(8, depth, 4, "scaled", "scaled", depths, widths)
    found = _found(base, rounding, 2, 0.05)
    assert set(found) == _sweep(base, rounding, 2, 0.05, step=1 / 64)
    for spec in found:
        grown = realised(base, spec, rounding)
        if depths == "fixed":
            assert (spec.depths[0], spec.depths[2], spec.depths[1] / 2) == (1, 1, grown.alpha)
        if widths == "fixed":
            assert (spec.widths[1], spec.widths[3]) == (8, 8)
            assert grown.beta == pytest.approx(spec.widths[2] / 20)


@settings(max_examples=20)
@given(
    depths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    widths=st.lists(st.integers(4, 40), min_size=3, max_size=3),
    resolution=st.integers(5, 12),
    depth=st.sampled_from(DEPTHS),
    divisor=st.sampled_from([4, 8, 12]),
    step=st.sampled_from([2, 3, 8]),
    budget=st.floats(1.05, 4),
)
def test_a_sweep_of_any_small_baseline_finds_nothing_more(
    depths: list[int], widths: list[int], resolution: int, depth: DepthRounding, divisor: int, step: int, budget: float
) -> None:
    base = _network(tuple(depths), tuple(widths[: len(depths)]), resolution)
    rounding = Rounding(divisor, depth, step, "fixed", "fixed")
    found = _found(base, rounding, budget, 0.06)
    assert len(set(found)) == len(found)
    assert _sweep(base, rounding, budget, 0.06, step=1 / 40) <= set(found)


@given(depths=st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple), depth=st.sampled_from(DEPTHS))
def test_every_depth_vector_between_one_and_two_is_listed(depths: tuple[int, ...], depth: DepthRounding) -> None:
    """A rounded depth changes at multiples of a half over the stages' least common multiple, and nowhere else."""
    base = _network(depths, (8,) * len(depths), 4)
    rounding = Rounding(8, depth, 1024, "fixed", "fixed")
    parts = 4 * math.lcm(*depths, sum(depths))
    vectors = {round_depths(depths, 1 + part / parts, depth) for part in range(parts)}
    listed = reachable(base, rounding, 4 * complexity(base).macs)
    assert vectors <= set(map(tuple, listed.depths.tolist()))
    assert all(
        round_depths(depths, alpha, depth) == tuple(row)
        for alpha, row in zip(listed.alpha.tolist(), listed.depths.tolist(), strict=True)
    )


def test_a_width_vector_that_one_multiplier_alone_reaches_is_found() -> None:
    """At β = 4/3, 33 rounds up to 48 while 20 still rounds to 24; a hair less or more and one of them differs."""
    base = _network((1, 1), (33, 20), 8)
    rounding = Rounding(8, "ceil", 8, "fixed", "fixed")
    only = base.with_sizes((1, 1), (8, 48, 24, 0), 8)
    assert scale(base, dataclasses.replace(realised(base, base, rounding), beta=4 / 3), rounding) == only
    budget = complexity(only).macs / complexity(base).macs
    assert only in _found(base, rounding, budget, 1e-6)


def test_widths_may_shrink_in_a_stage_but_not_in_the_mean() -> None:
    """Rounding takes 34 to 32. With 128 still at 128 the mean shrinks; with 136 it is 1: 34 · 128 = 32 · 136."""
    base = _network((1, 1), (34, 128), 8)
    rounding = Rounding(8, "balanced", 1, "fixed", "fixed")
    assert round_widths(base.widths, 1.001, rounding) == (8, 32, 128, 0)
    assert round_widths(base.widths, 1.035, rounding) == (8, 32, 136, 0)
    spec = base.with_sizes((2, 1), (8, 32, 136, 0), 8)
    budget = complexity(spec).macs / complexity(base).macs
    assert spec in _found(base, rounding, budget, 1e-6)
    widths = set(map(tuple, feasible_set(base, rounding, budget, 1e-6).widths.tolist()))
    assert (8, 32, 128, 0) not in widths
    assert all(_geometric_growth(base, row) >= 0 for row in widths)


def test_more_blocks_that_cost_less_are_found() -> None:
    """Largest remainder may take a block from a stage when the total grows: here 3 + 11 + 11, then 2 + 12 + 12.

    Where the first stage's blocks are the dear ones, the longer network is the cheaper.
    """
    base = _network((2, 9, 9), (64, 4, 4), 8)
    rounding = Rounding(4, "balanced", 8, "fixed", "fixed")
    shorter, longer = spread_depth(base.depths, 25), spread_depth(base.depths, 26)
    assert (shorter, longer) == ((3, 11, 11), (2, 12, 12))
    spec = base.with_sizes(longer, base.widths, 8)
    assert complexity(spec).macs < complexity(base.with_sizes(shorter, base.widths, 8)).macs
    assert spec in _found(base, rounding, complexity(spec).macs / complexity(base).macs, 1e-6)


SCALED_IN_EVERY_WAY = ("efficientnet-b0", "mobilenet-v1", "mobilenet-v2", "resnet-18", "resnet-34", "resnet-50",
                       "resnet-101", "resnet-152", "resnet-200")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "depth", "budget"),
    [
        (name, depth, budget)
        for name in NAMES
        for depth in DEPTHS
        for budget in (1.01, 1.5, 2, 4)
        if name in SCALED_IN_EVERY_WAY or (depth, budget) == ("balanced", 2)
    ],
)
def test_promises_hold_for_every_baseline(name: str, depth: DepthRounding, budget: float) -> None:
    own = baseline(name)
    rounding = dataclasses.replace(own.rounding, depth=depth)
    found, deepened = feasible_set(own.spec, rounding, budget, 0.02), rounding.deepened
    assert found.counted == found.combinations
    assert len(np.unique(found.index, axis=0)) == len(found)
    for axis in (found.depths, found.widths, found.resolutions):
        assert len(np.unique(axis, axis=0)) == len(axis)
    assert found.shares.min() >= 0
    assert np.abs(found.shares.sum(axis=1) - 1).max() < 1e-12
    assert np.abs(found.cost_ratio / budget - 1).max() <= 0.02 + 1e-12
    for row in np.linspace(0, len(found) - 1, 12).astype(int).tolist():
        candidate = found.candidate(row)
        assert scale(own.spec, candidate.nominal, rounding) == candidate.spec
        assert abs(candidate.cost_ratio / budget - 1) <= 0.02 + 1e-12
        assert candidate.coefficients.alpha == sum(candidate.spec.depths[deepened]) / sum(own.spec.depths[deepened])
        assert candidate.coefficients.gamma == candidate.spec.resolution / own.spec.resolution


def test_b0_doubled_has_the_networks_of_the_decision() -> None:
    """docs/decisions/0001: counts of 2026-11, B0 at B = 2 within 2 %; a change here is a change of the set."""
    own = baseline("efficientnet-b0")
    balanced = feasible_set(own.spec, dataclasses.replace(own.rounding, depth="balanced"), 2, 0.02)
    assert (balanced.counted, len(balanced), len(np.unique(balanced.index[:, 0]))) == (189_635, 2_741, 17)
    assert len(balanced.without_twins()) == 1_424
    coarse = feasible_set(own.spec, dataclasses.replace(own.rounding, resolution_step=8), 2, 0.02)
    assert (len(coarse), len(np.unique(coarse.index[:, 0]))) == (143, 7)


def test_resolutions_with_the_same_maps_are_one_network() -> None:
    """Behind a stem of stride 2, 17 and 18 pixels give the same maps and cost the same: the larger one is kept."""
    for pixels, dropped in ((16, {17, 19, 21, 23}), (17, {18, 19, 21, 23})):
        base = dataclasses.replace(_network((1, 2), (8, 8), pixels), stem=StemSpec(8, 3, 2))
        found = feasible_set(base, Rounding(2, "balanced", 1, "scaled", "fixed"), 2, 0.05)
        assert len(_sizes(found)) == len(found)
        single = found.without_twins()
        used = np.unique(single.index[:, 2])
        assert set(single.resolutions[used].tolist()) <= set(range(pixels, 40)) - dropped
        assert _computed(single) == _computed(found)
        assert len(_computed(single)) == len(single) < len(found)


def test_the_realised_width_is_the_geometric_mean_of_the_stages() -> None:
    base = _network((1, 2, 1), (8, 8, 8), 8, head=8)
    grown = base.with_sizes((2, 3, 1), (64, 16, 32, 8, 64), 12)
    coefficients = realised(base, grown, Rounding(8, "round", 1, "scaled", "scaled"))
    assert (coefficients.alpha, coefficients.gamma) == (6 / 4, 12 / 8)
    assert coefficients.beta == pytest.approx(2, rel=1e-15)  # (2 · 4 · 1)^(1/3); neither stem nor head counts


def _computed(found: FeasibleSet) -> set[tuple[int, ...]]:
    """The depths, widths and areas of all maps of each network."""
    d, w, r = found.index.T
    maps = areas(found.baseline, found.resolutions).T
    return set(map(tuple, np.column_stack((found.depths[d], found.widths[w], maps[r])).tolist()))


def _sizes(found: FeasibleSet) -> set[tuple[int, ...]]:
    """The depths, widths and resolution of each network."""
    d, w, r = found.index.T
    return set(map(tuple, np.column_stack((found.depths[d], found.widths[w], found.resolutions[r])).tolist()))


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_large_set_is_thinned_and_says_so(depth: DepthRounding) -> None:
    own = baseline("efficientnet-b0")
    found = feasible_set(own.spec, dataclasses.replace(own.rounding, depth=depth), 64, 0.02)
    assert found.counted <= feasible.MAX_COUNTED < found.combinations
    assert len(found) > 1000
    assert np.abs(found.cost_ratio / 64 - 1).max() <= 0.02 + 1e-12
    # Thinned evenly: the set still reaches near every corner of the triangle.
    assert found.shares.max(axis=0).min() > 0.95


def test_a_thinned_set_is_part_of_the_whole() -> None:
    own = baseline("mobilenet-v2")
    whole = feasible_set(own.spec, own.rounding, 2, 0.05)
    thin = feasible_set(own.spec, own.rounding, 2, 0.05, max_counted=5_000, chunk=1_000)
    assert 2_500 < thin.counted <= 5_000 < thin.combinations == whole.combinations == whole.counted
    assert _sizes(thin) <= _sizes(whole)


def test_counting_in_pieces_changes_nothing() -> None:
    own = baseline("efficientnet-b0")
    whole = feasible_set(own.spec, own.rounding, 2, 0.02)
    pieces = feasible_set(own.spec, own.rounding, 2, 0.02, chunk=1)
    assert np.array_equal(whole.index, pieces.index)
    assert np.array_equal(whole.cost_ratio, pieces.cost_ratio)


@pytest.mark.parametrize(
    ("base", "rounding", "budget", "tolerance"),
    [
        (baseline("resnet-18").spec, Rounding(64, "round", 32, "scaled", "fixed"), 1.01, 0.001),
        (baseline("resnet-18").spec, Rounding(64, "round", 32, "scaled", "fixed"), 1.9, 1e-5),
        (baseline("efficientnet-b0").spec, Rounding(8, "ceil", 1, "scaled", "scaled"), 1.001, 1e-4),
        (baseline("mobilenet-v1").spec, Rounding(64, "ceil", 64, "scaled", "fixed"), 1.2, 0.001),
        (_network((1, 2), (8, 20), 11), Rounding(8, "balanced", 4, "fixed", "fixed"), 1.01, 1e-3),
    ],
)
def test_the_advice_for_an_empty_set_works(
    base: ArchitectureSpec, rounding: Rounding, budget: float, tolerance: float
) -> None:
    with pytest.raises(InfeasibleBudget) as caught:
        feasible_set(base, rounding, budget, tolerance)
    message = str(caught.value)
    assert "\n" not in message
    assert f"no network costs {budget:g} × the baseline's {complexity(base).macs:,} macs" in message
    named = re.search(r"the nearest costs ([\d.]+)×: raise `tolerance` to ([\d.]+)", message)
    assert named, message
    raised = feasible_set(base, rounding, budget, float(named[2]))
    nearest = float(raised.cost_ratio[np.abs(raised.cost_ratio / budget - 1).argmin()])
    assert f"{nearest:.7g}" == named[1]
    # The named tolerance is no looser than its four digits make it.
    assert abs(nearest / budget - 1) > float(named[2]) - 2e-4


def test_the_advice_names_finer_rounding_where_there_is_one() -> None:
    spec = baseline("resnet-18").spec
    with pytest.raises(InfeasibleBudget, match="or lower `width_divisor` to 32, or lower `resolution_step` to 16"):
        feasible_set(spec, Rounding(64, "round", 32, "scaled", "fixed"), 1.01, 0.001)
    with pytest.raises(InfeasibleBudget) as caught:
        feasible_set(spec, Rounding(1, "round", 1, "scaled", "fixed"), 1.01, 1e-7)
    assert "lower" not in str(caught.value)


def test_a_network_too_coarse_for_any_tolerance_is_told_to_raise_the_budget() -> None:
    """One block from one channel to eight at one pixel: a block from eight to eight is several times the network."""
    stages = (make_stage("separable", kernel_size=3, stride=1, expand_ratio=1, width=8, depth=1),)
    base = ArchitectureSpec(1, 1, 1, StemSpec(1, 1, 1), stages, 0)
    with pytest.raises(InfeasibleBudget, match=r"none costs below 2\.02×: raise `budget`, or lower `width_divisor` to"):
        feasible_set(base, Rounding(512, "ceil", 512, "fixed", "fixed"), 1.01, 0.01)


@pytest.mark.parametrize(
    ("base", "most", "size"),
    [
        (_network((1, 2), (2_500_000, 8), 8), "500,000 widths", "up to 2,500,000 channels"),
        (_network((1, 2), (8, 8), 8, head=60_000_000), "500,000 widths", "up to 60,000,000 channels"),
        (_network((1, 20_000_000), (8, 8), 8), "2,000,000 numbers of blocks", "20,000,001 blocks"),
        (_network((1, 2), (8, 8), 3_000_000), "2,000,000 resolutions", "3,000,000 pixels"),
    ],
)
def test_what_cannot_be_listed_is_refused_at_once(base: ArchitectureSpec, most: str, size: str) -> None:
    message = f"`budget` must leave at most {most} to choose from, but a baseline of {size} leaves some"
    with pytest.raises(InputError, match=message):
        feasible_set(base, Rounding(8, "balanced", 1, "scaled", "scaled"), 2, 0.02)


@pytest.mark.parametrize("budget", [1, 0.5, -2, 0, math.nan, math.inf, -math.inf])
def test_a_budget_must_be_above_one(budget: float) -> None:
    own = baseline("efficientnet-b0")
    with pytest.raises(ValueError, match=rf"`budget` must be a number above 1 .* but got {budget:g}"):
        feasible_set(own.spec, own.rounding, budget, 0.02)


@pytest.mark.parametrize("tolerance", [0, 1, -0.1, 2, math.nan])
def test_a_tolerance_must_be_a_fraction(tolerance: float) -> None:
    own = baseline("efficientnet-b0")
    with pytest.raises(ValueError, match=rf"`tolerance` must be a fraction above 0 and below 1, but got {tolerance:g}"):
        feasible_set(own.spec, own.rounding, 2, tolerance)
