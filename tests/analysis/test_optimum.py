"""The closed-form optimum of a polynomial, against a dense grid and a numerical search."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from scalesearch.analysis.optimum import optimum, where
from scalesearch.analysis.surfaces.mixture import CUBIC
from scalesearch.analysis.surfaces.polynomial import Polynomial, fit_polynomial
from scalesearch.analysis.tables import candidates_table
from scalesearch.scaling.simplex import Shares, lattice
from tests.planted import PlantedSurface, planted_records

GRID = np.array([shares.values for shares in lattice(60)])


def value_at(surface: Polynomial, shares: Shares) -> float:
    return float(surface.predict([shares.values])[0])


def surface_of(linear: tuple[float, ...], interaction: tuple[float, ...], metric: str = "val_loss") -> Polynomial:
    """A quadratic with these coefficients and the identity as covariance."""
    terms = ("depth", "width", "resolution", "depth·width", "depth·resolution", "width·resolution")
    return Polynomial(
        metric=metric,
        budget=2.0,
        model="Scheffé quadratic",
        model_note="",
        covariate_note="",
        terms=terms,
        coefficients=linear + interaction,
        standard_errors=(1.0,) * 6,
        robust_errors=(1.0,) * 6,
        covariance=tuple(tuple(float(i == j) for j in range(6)) for i in range(6)),
        shifts=(),
        adjusted_r2=1.0,
        residual_sd=0.0,
        residual_df=9,
        p=0.0,
        n=15,
        left_out=(),
        influence=(),
        validation=(),
        levels_p=None,
    )


def test_the_interior_optimum_of_a_special_cubic_is_stationary() -> None:
    """x·y·z alone: its greatest value is at the centre, 1/27."""
    fit = dataclasses.replace(
        surface_of((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        model=CUBIC,
        terms=("depth", "width", "resolution", "dw", "dr", "wr", "dwr"),
        coefficients=(0.0,) * 6 + (1.0,),
        covariance=tuple(tuple(float(i == j) for j in range(7)) for i in range(7)),
    )
    best = optimum(fit, maximise=True)
    assert best.values == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-9)
    assert value_at(fit, best) == pytest.approx(1 / 27, abs=1e-12)


def test_the_linear_model_has_its_optimum_at_a_corner() -> None:
    table = candidates_table(planted_records(PlantedSurface(interaction=(0, 0, 0)), noise_sd=0), 2.0, "val_loss")
    order = [0, 4, 14, 6, 9]
    fit = fit_polynomial(table.set_index("candidate").loc[order].reset_index(), 2.0, "val_loss")
    assert fit.model == "Scheffé linear"
    best = optimum(fit, maximise=False)
    assert (where(best), best.values) == ("corner: all width", (0.0, 1.0, 0.0))


NUMBER = st.floats(-1, 1).map(lambda x: round(x, 6))
THREE = st.tuples(NUMBER, NUMBER, NUMBER)
Triple = tuple[float, float, float]


@given(THREE, THREE, st.booleans())
@example((0.0, 0.0, 0.0), (-1.0, -1.0, -1.0), False)  # interior
@example((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), True)
@example((1.0, 0.0, 0.0), (0.0, 0.0, -0.5), False)  # edge
@example((0.0, 0.0, -1.0), (0.0, 0.0, 0.0), False)  # corner
@example((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), False)  # flat
@example((0.0, 0.0, 0.5), (-1.0, 0.0, 0.0), False)
@example((0.0, 1.0, 0.0), (0.0, -1.0, 0.0), False)
@example((0.3, 0.3, 0.3), (0.0, -1e-6, 0.0), False)
def test_the_optimum_is_no_worse_than_a_dense_grid(linear: Triple, interaction: Triple, maximise: bool) -> None:
    fit = surface_of(linear, interaction)
    best = optimum(fit, maximise)
    sign = -1 if maximise else 1
    assert sign * value_at(fit, best) <= (sign * fit.predict(GRID)).min() + 1e-12
    absent = sum(share == 0 for share in best.values)
    assert where(best).startswith(("interior", "edge: no ", "corner: all ")[absent])


@given(THREE, THREE)
def test_a_numerical_search_from_the_optimum_finds_nothing_better(linear: Triple, interaction: Triple) -> None:
    fit = surface_of(linear, interaction)
    best = optimum(fit, maximise=False)

    def value(point: np.ndarray) -> float:
        return float(fit.predict([[point[0], point[1], 1 - point[0] - point[1]]])[0])

    result = minimize(
        value,
        best.values[:2],
        method="SLSQP",
        bounds=[(0, 1), (0, 1)],
        constraints={"type": "ineq", "fun": lambda point: 1 - point[0] - point[1]},
    )
    # SLSQP keeps its constraints to about 1e-10.
    assert result.fun >= value_at(fit, best) - 1e-8


@pytest.mark.parametrize(
    ("linear", "interaction", "place", "shares"),
    [
        # By hand. Symmetric: the centre. Edge: t = (0 − 0 + 0.5) ÷ 1 on width and resolution. Corner: −1 beats all.
        ((0.0, 0.0, 0.0), (-1.0, -1.0, -1.0), "interior", (1 / 3, 1 / 3, 1 / 3)),
        ((1.0, 0.0, 0.0), (0.0, 0.0, -0.5), "edge: no depth", (0.0, 0.5, 0.5)),
        ((0.0, 1.0, 0.2), (0.0, -1.0, 0.0), "edge: no width", (0.6, 0.0, 0.4)),
        ((0.0, 0.2, 1.0), (-1.0, 0.0, 0.0), "edge: no resolution", (0.6, 0.4, 0.0)),
        ((0.0, 0.0, -1.0), (0.1, 0.0, 0.0), "corner: all resolution", (0.0, 0.0, 1.0)),
    ],
)
def test_the_optimum_by_hand(linear: Triple, interaction: Triple, place: str, shares: Triple) -> None:
    fit = surface_of(linear, interaction)
    best = optimum(fit, maximise=False)
    assert where(best) == place
    assert best.values == pytest.approx(shares, abs=1e-12)
    d, w, r = shares
    terms = np.array([d, w, r, d * w, d * r, w * r])
    # With the identity as covariance the variance of a prediction is the squared length of its terms.
    assert fit.standard_error([best.values]) == pytest.approx([math.sqrt(terms @ terms)], rel=1e-12)
    assert value_at(fit, best) == pytest.approx(float(terms @ np.array(linear + interaction)), abs=1e-12)
