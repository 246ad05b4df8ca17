"""The closed-form optimum of a surface against a dense grid and a numerical search."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from scalesearch.analysis.optimum import optimum
from scalesearch.analysis.surfaces.base import (
    CUBIC,
    SurfaceFit,
)
from scalesearch.analysis.surfaces.polynomial import fit_surface
from scalesearch.analysis.tables import candidates_table
from scalesearch.scaling.simplex import lattice
from tests.planted import PlantedSurface, planted_records

GRID = np.array([shares.values for shares in lattice(60)])


def surface_of(linear: tuple[float, ...], interaction: tuple[float, ...], metric: str = "val_loss") -> SurfaceFit:
    """A fit with these coefficients and the identity as covariance."""
    terms = ("depth", "width", "resolution", "depth·width", "depth·resolution", "width·resolution")
    return SurfaceFit(
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
        r2=1.0,
        adjusted_r2=1.0,
        residual_sd=0.0,
        residual_df=9,
        f=math.inf,
        p=0.0,
        n=15,
        left_out=(),
        influence=(),
        validation=(),
        levels_p=None,
    )


def test_the_special_cubics_optimum_inside_is_stationary():
    """x·y·z alone: its greatest value is at the centre, 1/27."""
    fit = dataclasses.replace(
        surface_of((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        model=CUBIC,
        terms=("depth", "width", "resolution", "dw", "dr", "wr", "dwr"),
        coefficients=(0.0,) * 6 + (1.0,),
        covariance=tuple(tuple(float(i == j) for j in range(7)) for i in range(7)),
    )
    best = optimum(fit, maximise=True)
    assert best.shares.values == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-9)
    assert best.value == pytest.approx(1 / 27, abs=1e-12)


def test_the_linear_model_has_its_optimum_at_a_corner():
    table = candidates_table(planted_records(PlantedSurface(interaction=(0, 0, 0)), noise_sd=0), 2.0, "val_loss")
    order = [0, 4, 14, 6, 9]
    fit = fit_surface(table.set_index("candidate").loc[order].reset_index(), 2.0, "val_loss")
    assert fit.model == "Scheffé linear"
    best = optimum(fit, maximise=False)
    assert (best.where, best.shares.values) == ("corner: all width", (0.0, 1.0, 0.0))


NUMBER = st.floats(-1, 1).map(lambda x: round(x, 6))
THREE = st.tuples(NUMBER, NUMBER, NUMBER)


@given(THREE, THREE, st.booleans())
@example((0.0, 0.0, 0.0), (-1.0, -1.0, -1.0), False)  # interior
@example((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), True)
@example((1.0, 0.0, 0.0), (0.0, 0.0, -0.5), False)  # edge
@example((0.0, 0.0, -1.0), (0.0, 0.0, 0.0), False)  # corner
@example((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), False)  # flat
@example((0.0, 0.0, 0.5), (-1.0, 0.0, 0.0), False)
@example((0.0, 1.0, 0.0), (0.0, -1.0, 0.0), False)
@example((0.3, 0.3, 0.3), (0.0, -1e-6, 0.0), False)
def test_the_optimum_is_no_worse_than_a_dense_grid_and_is_attained(linear, interaction, maximise: bool):
    fit = surface_of(linear, interaction)
    best = optimum(fit, maximise)
    sign = -1 if maximise else 1
    values = sign * fit.predict(GRID)
    assert sign * best.value <= values.min() + 1e-12
    assert sign * best.value == pytest.approx(sign * fit.predict(np.array([best.shares.values]))[0], abs=1e-15)
    absent = sum(share == 0 for share in best.shares.values)
    assert best.where.startswith(("interior", "edge: no ", "corner: all ")[absent])


@given(THREE, THREE)
def test_no_descent_leaves_the_optimum(linear, interaction):
    """From the optimum, a numerical search on the triangle finds nothing better."""
    fit = surface_of(linear, interaction)
    best = optimum(fit, maximise=False)

    def value(point):
        return fit.predict(np.array([[point[0], point[1], 1 - point[0] - point[1]]]))[0]

    found = minimize(
        value,
        best.shares.values[:2],
        method="SLSQP",
        bounds=[(0, 1), (0, 1)],
        constraints={"type": "ineq", "fun": lambda point: 1 - point[0] - point[1]},
    )
    # SLSQP keeps its constraints to about 1e-10.
    assert found.fun >= best.value - 1e-8


@pytest.mark.parametrize(
    ("linear", "interaction", "where", "shares"),
    [
        # By hand. Symmetric: the centre. Edge: t = (0 − 0 + 0.5) ÷ 1 on width and resolution. Corner: −1 beats all.
        ((0.0, 0.0, 0.0), (-1.0, -1.0, -1.0), "interior", (1 / 3, 1 / 3, 1 / 3)),
        ((1.0, 0.0, 0.0), (0.0, 0.0, -0.5), "edge: no depth", (0.0, 0.5, 0.5)),
        ((0.0, 1.0, 0.2), (0.0, -1.0, 0.0), "edge: no width", (0.6, 0.0, 0.4)),
        ((0.0, 0.2, 1.0), (-1.0, 0.0, 0.0), "edge: no resolution", (0.6, 0.4, 0.0)),
        ((0.0, 0.0, -1.0), (0.1, 0.0, 0.0), "corner: all resolution", (0.0, 0.0, 1.0)),
    ],
)
def test_the_place_of_the_optimum_in_plain_words(linear, interaction, where, shares):
    best = optimum(surface_of(linear, interaction), maximise=False)
    assert best.where == where
    assert best.shares.values == pytest.approx(shares, abs=1e-12)
    d, w, r = shares
    terms = np.array([d, w, r, d * w, d * r, w * r])
    # With the identity as covariance the variance of a prediction is the squared length of its terms.
    assert best.standard_error == pytest.approx(math.sqrt(terms @ terms), rel=1e-12)
    assert best.value == pytest.approx(float(terms @ np.array(linear + interaction)), abs=1e-12)
