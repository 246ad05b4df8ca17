"""The split of real cost: it adds up, is the mean over the orders, and gives a corner to one dimension alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scalesearch.baselines.published import baseline
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.budgeted import MACS
from scalesearch.scaling.cost.count import FloatArray
from scalesearch.scaling.simplex import EQUAL
from scalesearch.scaling.split import log_parts, shares_of_parts, split_cost
from tests.planted import small_baseline

BASE = small_baseline().spec

DEPTHS = st.tuples(st.integers(1, 30), st.integers(1, 30))
WIDTHS = st.tuples(*(st.integers(2, 80),) * 4)


def sized(depths: tuple[int, ...], widths: tuple[int, ...], resolution: int) -> ArchitectureSpec:
    return BASE.with_sizes(depths, widths, resolution)


def costs(spec: ArchitectureSpec) -> FloatArray:
    """Costs (2, 2, 2) of the baseline with or without the depths, widths and resolution of `spec`."""
    sizes = [(getattr(BASE, name), getattr(spec, name)) for name in ("depths", "widths", "resolution")]
    return np.array([MACS.of(sized(*chosen)) for chosen in itertools.product(*sizes)], float).reshape(2, 2, 2)


@settings(max_examples=30)
@given(DEPTHS, WIDTHS, st.integers(8, 200))
@example((3, 5), (8, 12, 20, 32), 48)  # shrunk
def test_the_parts_are_the_means_over_the_orders_and_add_up(
    depths: tuple[int, ...], widths: tuple[int, ...], resolution: int
) -> None:
    spec = sized(depths, widths, resolution)
    cost = costs(spec)
    expected = np.zeros(3)
    for order in itertools.permutations(range(3)):
        place = [0, 0, 0]
        for dimension in order:
            before = cost[tuple(place)]
            place[dimension] = 1
            expected[dimension] += math.log(cost[tuple(place)] / before) / 6
    parts = log_parts(cost)
    assert parts == pytest.approx(expected, abs=1e-12)
    assert parts.sum() == pytest.approx(math.log(MACS.of(spec) / MACS.of(BASE)), abs=1e-12)
    assert split_cost(BASE, spec).values == tuple(shares_of_parts(parts).tolist())
    if (parts >= 0).all() or (parts <= 0).all():
        assert split_cost(BASE, spec).values == pytest.approx(parts / parts.sum() if parts.any() else 1 / 3, abs=1e-9)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_dimension_that_alone_grew_or_shrank_has_all_of_the_cost(factor: float) -> None:
    depths, widths = (tuple(int(factor * size) for size in sizes) for sizes in (BASE.depths, BASE.widths))
    resolution = int(factor * BASE.resolution)
    assert split_cost(BASE, sized(depths, BASE.widths, BASE.resolution)).values == (1.0, 0.0, 0.0)
    assert split_cost(BASE, sized(BASE.depths, widths, BASE.resolution)).values == (0.0, 1.0, 0.0)
    assert split_cost(BASE, sized(BASE.depths, BASE.widths, resolution)).values == (0.0, 0.0, 1.0)
    assert split_cost(BASE, BASE) == EQUAL


def test_what_leaves_the_cost_unchanged_has_no_share() -> None:
    """95 px have the maps of 96 px here: the first stride rounds up."""
    depths = (12, 14)
    assert split_cost(BASE, sized(depths, BASE.widths, 95)).values == (1.0, 0.0, 0.0)


def test_a_part_against_the_sum_counts_as_none() -> None:
    parts = np.array([[0.5, -0.1, 0.5], [-0.5, 0.1, -1.5], [0.0, 0.0, 0.0]])
    assert shares_of_parts(parts) == pytest.approx(np.array([[0.5, 0, 0.5], [0.25, 0, 0.75], [1 / 3] * 3]))


def test_a_small_step_in_pixels_that_costs_the_budget_is_a_corner() -> None:
    """ResNet-18 at 32 px: 34 px make every map larger by a row and cost 2.17 times as much."""
    published = baseline("resnet-18").spec
    small = published.with_sizes(published.depths, published.widths, 32)
    wider = tuple(width + 8 * (width == 512) for width in small.widths)
    near = small.with_sizes(small.depths, wider, 34)
    assert split_cost(small, near).values == pytest.approx((0, 0.012, 0.988), abs=5e-4)
