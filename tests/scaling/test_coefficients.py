"""Coefficients and shares are two names of one point on the budget's surface."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.scaling.coefficients import Coefficients, coefficients_of, shares_of
from scalesearch.scaling.simplex import Shares, from_search_space

unit = st.floats(0, 1)
budgets = st.floats(1.01, 64)
# log and exp each lose a unit in the last place, magnified by 1/ln B ≤ 101.
ROUNDING = 1e-12


@given(unit, unit, budgets)
def test_shares_survive_the_way_through_coefficients(depth_share: float, width_fraction: float, budget: float) -> None:
    shares = from_search_space(depth_share, width_fraction)
    assert shares_of(coefficients_of(shares, budget)).values == pytest.approx(shares.values, abs=ROUNDING)


@given(unit, unit, budgets)
def test_the_product_is_the_budget(depth_share: float, width_fraction: float, budget: float) -> None:
    coefficients = coefficients_of(from_search_space(depth_share, width_fraction), budget)
    assert min(coefficients.alpha, coefficients.beta, coefficients.gamma) >= 1
    assert coefficients.product == pytest.approx(budget, rel=ROUNDING)


def test_the_corners_spend_the_budget_on_one_dimension() -> None:
    assert coefficients_of(Shares(1, 0, 0), 4) == Coefficients(4, 1, 1)
    assert coefficients_of(Shares(0, 1, 0), 4) == Coefficients(1, 2, 1)
    assert coefficients_of(Shares(0, 0, 1), 4) == Coefficients(1, 1, 2)


def test_the_papers_triple_has_the_published_shares() -> None:
    """arXiv:1905.11946 §3.3: (1.2, 1.1, 1.15), product 1.920, shares 0.279, 0.292, 0.428."""
    triple = Coefficients(1.2, 1.1, 1.15)
    assert triple.product == pytest.approx(1.92027, abs=1e-12)
    assert shares_of(triple).values == pytest.approx((0.2794, 0.2922, 0.4284), abs=5e-5)


def test_a_power_of_phi_multiplies_the_exponents() -> None:
    cubed = Coefficients(1.2, 1.1, 1.15) ** 3
    assert (cubed.alpha, cubed.beta, cubed.gamma) == pytest.approx((1.728, 1.331, 1.520875), rel=1e-14)
    assert Coefficients(1.2, 1.1, 1.15) ** 0 == Coefficients(1, 1, 1)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_a_coefficient_must_be_finite_and_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number above 0"):
        Coefficients(**{"alpha": 1.0, "beta": 1.0, "gamma": 1.0, name: value})


@pytest.mark.parametrize("coefficients", [Coefficients(1, 1, 1), Coefficients(0.9, 1.5, 1), Coefficients(0.9, 1, 1)])
def test_a_shrunken_network_has_no_shares(coefficients: Coefficients) -> None:
    with pytest.raises(ValueError, match="shares need coefficients of at least 1, one of them above"):
        shares_of(coefficients)
