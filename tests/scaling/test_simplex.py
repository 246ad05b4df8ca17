"""The triangle of shares: its lattice, its search space, and its uniform points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.scaling.simplex import Shares, from_search_space, from_unit_square, lattice

# Sums of three shares carry a few units in the last place.
ROUNDING = 1e-12
unit = st.floats(0, 1)


@st.composite
def shares(draw: st.DrawFn) -> Shares:
    return from_search_space(draw(unit), draw(unit))


@given(st.integers(1, 12))
def test_lattice_holds_every_multiple_of_one_over_the_degree_once(degree: int) -> None:
    points = lattice(degree)
    assert len(points) == (degree + 1) * (degree + 2) // 2
    whole = {tuple(round(value * degree) for value in point.values) for point in points}
    expected = {(d, w, degree - d - w) for d in range(degree + 1) for w in range(degree + 1) if d + w <= degree}
    assert whole == expected
    for point in points:
        assert all(abs(value * degree - round(value * degree)) < ROUNDING for value in point.values)


def test_lattice_of_degree_three_is_scheffes() -> None:
    """Scheffé 1958, Table 1: the {3, 3} design has the corners, two points on each edge and the centre."""
    third = 1 / 3
    assert len(lattice(3)) == 10
    assert {Shares(1, 0, 0), Shares(0, 1, 0), Shares(0, 0, 1), Shares(third, third, third)} < set(lattice(3))


@pytest.mark.parametrize("degree", [0, -1])
def test_lattice_refuses_a_degree_below_one(degree: int) -> None:
    with pytest.raises(ValueError, match=rf"`degree` must be at least 1, but got {degree}"):
        lattice(degree)


@given(shares())
def test_search_space_parameters_give_the_shares_back(point: Shares) -> None:
    again = from_search_space(point.depth_share, point.width_fraction)
    assert again.values == pytest.approx(point.values, abs=ROUNDING)


@given(unit, unit)
def test_search_space_fills_the_triangle_from_the_square(depth_share: float, width_fraction: float) -> None:
    point = from_search_space(depth_share, width_fraction)
    assert point.depth == depth_share
    assert min(point.values) >= 0
    assert math.fsum(point.values) == pytest.approx(1, abs=ROUNDING)
    assert point.width == pytest.approx(width_fraction * (1 - depth_share), abs=ROUNDING)


def test_depth_alone_leaves_the_width_fraction_in_the_middle() -> None:
    assert Shares(1, 0, 0).width_fraction == 0.5


@pytest.mark.parametrize(
    "values", [(0.5, 0.5, 0.5), (1.1, -0.1, 0.0), (math.nan, 0.5, 0.5), (math.inf, 0.0, 0.0), (0.3, 0.3, 0.3)]
)
def test_shares_are_refused_off_the_triangle(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="shares must be at least 0 and sum to 1, but got"):
        Shares(*values)


def test_uniform_points_stay_uniform_on_the_triangle() -> None:
    """Each of the four triangles between the midpoints of the edges holds a quarter of a fine regular grid."""
    side = 200
    ticks = (np.arange(side) + 0.5) / side
    points = from_unit_square(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2))
    values = np.array([point.values for point in points])
    corners = (values > 0.5).mean(axis=0)
    # A regular grid of n² points misses a region of smooth border by O(1/n).
    assert corners == pytest.approx([0.25] * 3, abs=2 / side)
    assert values.mean(axis=0) == pytest.approx([1 / 3] * 3, abs=2 / side)
