"""Networks within a tolerance are found by halving: the same ones, costs and shares as if all were counted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError
from scalesearch.scaling.compound import (
    Rounding,
    round_depth_rows,
    round_depths,
    round_width_rows,
    round_widths,
    spread_depth,
)
from scalesearch.scaling.cost.budgeted import MACS
from scalesearch.scaling.cost.count import areas, count, tabulate
from scalesearch.scaling.feasible import feasible_set
from scalesearch.scaling.reachable import reachable
from scalesearch.scaling.split import split_costs
from scalesearch.scaling.within import Combinations

multipliers = st.lists(st.floats(1, 50), min_size=1, max_size=20)


@given(
    st.lists(st.integers(1, 3000), min_size=3, max_size=6),
    multipliers,
    st.sampled_from([1, 3, 8, 64]),
    st.sampled_from(["scaled", "fixed"]),
    st.sampled_from(["scaled", "fixed", "grows"]),
    st.sampled_from(["scaled", "fixed"]),
)
def test_rows_of_widths_are_rounded_as_single_ones(widths, times, divisor, stem, head, ends) -> None:  # type: ignore[no-untyped-def]
    rounding = Rounding(divisor, "ceil", 1, stem, head, "scaled", ends)
    for row in (tuple(widths), (*widths[:-1], 0)):
        expected = [round_widths(row, each, rounding) for each in (1.0, *times)]
        assert round_width_rows(row, np.array([1.0, *times]), rounding).tolist() == list(map(list, expected))


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6), multipliers, st.sampled_from(["ceil", "round"]))
def test_rows_of_depths_are_rounded_as_single_ones(depths, times, policy) -> None:  # type: ignore[no-untyped-def]
    expected = [list(round_depths(tuple(depths), each, policy)) for each in times]
    assert round_depth_rows(np.array(depths), np.array(times), policy).tolist() == expected


def test_totals_of_blocks_are_spread_as_single_ones() -> None:
    own = baseline("efficientnet-b0")
    axes = reachable(own.spec, own.rounding, 8 * MACS.of(own.spec))
    balanced = reachable(own.spec, dataclasses.replace(own.rounding, depth="balanced"), 8 * MACS.of(own.spec))
    assert len(balanced.depths) > len(axes.depths) > 20
    for row in balanced.depths.tolist():
        assert tuple(row) == spread_depth(own.spec.depths, sum(row))


@pytest.mark.parametrize(("name", "pixels"), [("efficientnet-b0", 64), ("resnet-18", 32)])
@pytest.mark.parametrize("step", [1, 8])  # many resolutions, and few
def test_all_networks_within_the_tolerance_are_found(name: str, pixels: int, step: int) -> None:
    own = baseline(name)
    spec = dataclasses.replace(own.spec, resolution=pixels)
    rounding = dataclasses.replace(own.rounding, depth="balanced", resolution_step=step)
    target = 2.0 * MACS.of(spec)
    axes = reachable(spec, rounding, 1.05 * target)
    unwidened = np.zeros(len(axes.widths), bool)
    unwidened[0] = True

    table, area = tabulate(spec, axes.widths).macs, areas(spec, axes.resolutions)
    costs = count(table, axes.depths, area)
    off = np.abs(costs / target - 1)
    off[0, 0, 0] = np.inf
    index = np.argwhere(off <= 0.05)
    shares = split_costs(costs, costs[0], index)

    combined = Combinations(spec, axes, MACS, unwidened)
    found = combined.within(target, 0.05, chunk=10**9)
    assert len(index) > 50
    assert found.index.tolist() == index.tolist()
    assert found.costs.tolist() == costs[tuple(index.T)].tolist()
    np.testing.assert_allclose(found.shares, shares, rtol=0, atol=1e-12)  # of other batches of a matrix product
    nearest = costs.flat[off.argmin()] / target
    assert abs(combined.nearest(target) - 1) == abs(nearest - 1)


def test_more_networks_than_can_be_held_are_refused_before_they_are_listed() -> None:
    own = baseline("mobilenet-v2")
    target = 2.0 * MACS.of(own.spec)
    axes = reachable(own.spec, own.rounding, target)
    combined = Combinations(own.spec, axes, MACS, np.zeros(len(axes.widths), bool))
    with pytest.raises(InputError, match=r"`tolerance` must leave at most 500 networks at a `budget`, but 0\.1 leaves"):
        combined.within(target, 0.1, chunk=1000, most_numbers=500 * (len(own.spec.stages) + 3))


def test_costs_that_are_not_exact_are_refused() -> None:
    own = baseline("resnet-50")
    huge = own.spec.with_sizes(own.spec.depths, own.spec.widths, 280_000)
    with pytest.raises(
        InputError, match=r"`budget` times the baseline's [\d,]+ macs must be at most 9e\+15, above which"
    ):
        feasible_set(huge, own.rounding, 2, 0.02)
