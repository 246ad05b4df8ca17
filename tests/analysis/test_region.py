"""The confidence region of a polynomial: its definition, its coverage of planted optima, and its intervals."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import f as f_distribution

from scalesearch.analysis.optimum import optimum, where
from scalesearch.analysis.region import Region, confidence_region
from scalesearch.analysis.surfaces.mixture import QUADRATIC, mixture_slopes
from scalesearch.analysis.surfaces.polynomial import Polynomial, fit_polynomial
from scalesearch.analysis.tables import candidates_table
from scalesearch.scaling.simplex import Shares, lattice
from tests.planted import PlantedSurface, planted_records

INTERIOR = PlantedSurface()
EDGE = PlantedSurface(linear=(0.60, 0.50, 0.50), interaction=(-0.05, -0.05, -0.30))
CORNER = PlantedSurface(linear=(0.60, 0.50, 0.55), interaction=(0.05, 0.05, 0.05))
# All depth and all width are equally good, resolution is worse; between them it is worst.
TWO_CORNERS = PlantedSurface(linear=(0.50, 0.50, 0.56), interaction=(0.05, 0.02, 0.02))
# Two corners are optimal among their neighbours, one of them only among these; so is the best of the other two's edge.
SADDLE = PlantedSurface(linear=(0.5, 0.9, 0.9), interaction=(1.5, 1.5, 0.0))
FLAT = PlantedSurface(linear=(0.5, 0.5, 0.5), interaction=(0.0, 0.0, 0.0))


def fitted(surface: PlantedSurface, key: int = 0, noise_sd: float = 0.01) -> Polynomial:
    return fit_polynomial(
        candidates_table(planted_records(surface, key=key, noise_sd=noise_sd), 2.0, "val_loss"), 2.0, "val_loss"
    )


def region_of(fit: Polynomial) -> Region:
    return confidence_region(fit, optimum(fit, maximise=False), maximise=False)


def repeated(surface: PlantedSurface, count: int, noise_sd: float = 0.01) -> Iterator[Polynomial]:
    """The fits to `count` planted studies of three seeds, which differ in their noise alone."""
    exact = candidates_table(planted_records(surface, seed_sd=0.0, noise_sd=0.0), 2.0, "val_loss")
    for key in range(count):
        noise = noise_sd * np.random.default_rng(key).standard_normal((3, len(exact))).mean(0)
        yield fit_polynomial(exact.assign(val_loss=exact["val_loss"] + noise), 2.0, "val_loss")


def covered(surface: PlantedSurface, truth: tuple[float, float, float], noise_sd: float = 0.01) -> int:
    """The number of studies, of 100, whose 95 % region contains the planted optimum."""
    fits = repeated(surface, 100, noise_sd)
    return sum(fit.p_optimum(np.array([truth]), maximise=False)[0] >= 0.05 for fit in fits)


# The true optimum inside, from the planted coefficients: where all three slopes are equal.
def _inside(surface: PlantedSurface) -> tuple[float, float, float]:
    dw, dr, wr = surface.interaction
    system = np.array([[0, dw, dr, -1], [dw, 0, wr, -1], [dr, wr, 0, -1], [1, 1, 1, 0]])
    x = np.linalg.solve(system, np.array([*(-b for b in surface.linear), 1]))
    return (x[0], x[1], x[2])


@pytest.mark.parametrize(
    ("surface", "truth"),
    [
        (INTERIOR, _inside(INTERIOR)),
        (EDGE, (0.0, 0.5, 0.5)),
        (FLAT, (0.3, 0.4, 0.3)),
        (FLAT, (0.0, 0.5, 0.5)),
        (TWO_CORNERS, (1.0, 0.0, 0.0)),
        (TWO_CORNERS, (0.0, 1.0, 0.0)),
    ],
)
def test_it_covers_as_often_as_it_states(surface, truth) -> None:
    """95 % of 100 is 95, with a standard deviation of 2.2; benchmarks/planted_truth.py has more repetitions."""
    assert 88 <= covered(surface, truth) <= 99


def test_a_corner_that_is_clearly_best_is_covered_always() -> None:
    assert covered(CORNER, (0.0, 1.0, 0.0), noise_sd=0.002) == 100


def _slopes(fit: Polynomial, point: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The gradient (2,) along two directions of the triangle, and its covariance (2, 2)."""
    coefficients, covariance = fit.mixture_coefficients
    along = np.array([(1.0, -1.0, 0.0), (0.0, 1.0, -1.0)]) @ mixture_slopes(np.array([point]), 6)[0]
    return along @ coefficients, along @ covariance @ along.T


def test_inside_a_bowl_it_is_the_region_of_box_and_hunter() -> None:
    fit = fitted(INTERIOR, noise_sd=0.001)
    for point in ((0.25, 0.4, 0.35), (0.3, 0.45, 0.25), (0.35, 0.35, 0.3)):
        slopes, covariance = _slopes(fit, point)
        ratio = slopes @ np.linalg.solve(covariance, slopes) / 2
        expected = f_distribution.sf(ratio, 2, fit.residual_df)
        assert fit.p_optimum(np.array([point]), maximise=False)[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("surface", [INTERIOR, EDGE, CORNER, FLAT, SADDLE])
@pytest.mark.parametrize("maximise", [False, True])
def test_the_distance_is_that_to_the_nearest_surface_whose_optimum_is_there(surface, maximise) -> None:
    """Against another optimiser, which does not give the number k of active conditions: any k may be right."""
    fit = fitted(surface)
    coefficients, covariance = fit.mixture_coefficients
    root = np.linalg.cholesky(covariance)
    rivals = fit.mixture([point.values for point in lattice(8)])
    sign = -1 if maximise else 1
    for point in ((0.2, 0.5, 0.3), (0.0, 0.3, 0.7), (0.6, 0.4, 0.0), (0.0, 1.0, 0.0)):
        at = np.array([point])
        towards = (np.eye(3) - at) @ mixture_slopes(at, 6)[0]
        allowed = sign * np.vstack([towards, rivals - fit.mixture(at)]) @ root
        estimate = np.linalg.solve(root, coefficients)
        result = minimize(
            lambda moved: moved @ moved,
            np.zeros(len(estimate)),
            jac=lambda moved: 2 * moved,
            constraints={
                "type": "ineq",
                "fun": lambda moved, allowed=allowed, estimate=estimate: allowed @ (estimate + moved),
                "jac": lambda moved, allowed=allowed: allowed,
            },
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        p = fit.p_optimum(at, maximise)[0]
        ps = [f_distribution.sf(result.fun / k, k, fit.residual_df) for k in range(1, len(estimate))]
        assert min(abs(p - each) for each in ps) < 1e-6 or (result.fun < 1e-12 and p == 1.0)


@pytest.mark.parametrize("surface", [INTERIOR, EDGE, CORNER])
def test_the_optimum_itself_is_in_it_and_intervals_hold_it(surface) -> None:
    fit = fitted(surface, noise_sd=0.002)
    best = optimum(fit, maximise=False)
    assert fit.p_optimum(np.array([best.values]), maximise=False)[0] == pytest.approx(1.0, abs=1e-6)
    region = confidence_region(fit, best, maximise=False)
    assert (region.low <= np.array(best.values) + 1e-12).all()
    assert (np.array(best.values) <= region.high + 1e-12).all()
    assert region.points.sum(axis=1) == pytest.approx(1.0, abs=1e-9)
    assert region.part < 0.05
    intervals = region.intervals(2.0)
    assert intervals["alpha"] == pytest.approx((2 ** region.low[0], 2 ** region.high[0]))
    assert intervals["beta"] == pytest.approx((2 ** (region.low[1] / 2), 2 ** (region.high[1] / 2)))


def test_it_shrinks_with_the_noise_and_fills_the_triangle_without_a_signal() -> None:
    parts = []
    for noise in (0.001, 0.01, 0.1):
        fit = fitted(INTERIOR, noise_sd=noise)
        parts.append(region_of(fit).part)
    assert parts == sorted(parts)
    assert parts[0] < 0.001
    assert parts[2] > 0.3


def test_a_mirrored_metric_gives_the_same_region() -> None:
    fit = fitted(EDGE)
    mirrored = dataclasses.replace(fit, coefficients=tuple(-b for b in fit.coefficients))
    one = region_of(fit)
    two = confidence_region(mirrored, optimum(mirrored, maximise=True), maximise=True)
    assert one.points == pytest.approx(two.points, abs=1e-12)


def test_a_far_worse_point_is_out_though_its_slopes_allow_it() -> None:
    fit = fitted(SADDLE, noise_sd=0.001)
    best = optimum(fit, maximise=False)
    assert where(best) == "corner: all depth"
    region = confidence_region(fit, best, maximise=False)
    assert (region.points[:, 0] > 0.5).all()


def test_the_worst_point_of_an_edge_is_out_though_it_is_level_there() -> None:
    fit = fitted(TWO_CORNERS, noise_sd=0.002)
    t = optimum(dataclasses.replace(fit, coefficients=tuple(-b for b in fit.coefficients)), maximise=False)
    slopes, covariance = _slopes(fit, t.values)
    assert abs(slopes[0]) < 3 * np.sqrt(covariance[0, 0])
    region = region_of(fit)
    inside = fit.p_optimum(np.array([t.values, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]), maximise=False) >= 0.05
    assert inside.tolist() == [False, True, True]
    assert region.part < 0.05


@pytest.mark.parametrize(
    ("surface", "truth"), [pytest.param(INTERIOR, _inside(INTERIOR), marks=pytest.mark.long), (EDGE, (0.0, 0.5, 0.5))]
)
def test_what_the_optimum_loses_is_within_its_bound(surface, truth) -> None:
    """95 % of 50 is 47.5, with a standard deviation of 1.5."""
    least = surface.at(Shares(*truth), 2.0)
    held = 0
    for fit in repeated(surface, 50, noise_sd=0.008):
        best = optimum(fit, maximise=False)
        region = confidence_region(fit, best, maximise=False)
        held += surface.at(best, 2.0) - least <= region.regret
        assert 0 <= region.regret < region.range
    assert held >= 44


def test_a_region_that_falls_apart_has_the_best_point_of_each_piece() -> None:
    fit = fitted(TWO_CORNERS, noise_sd=0.002)
    best = optimum(fit, maximise=False)
    places = confidence_region(fit, best, maximise=False).places
    assert places[0].tolist() == list(best.values)
    assert sorted(places.tolist()) == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    one = fitted(INTERIOR, noise_sd=0.002)
    inside = optimum(one, maximise=False)
    assert confidence_region(one, inside, maximise=False).places.tolist() == [list(inside.values)]


def test_the_range_is_that_between_the_best_and_the_worst_split() -> None:
    fit = fitted(EDGE, noise_sd=0.0)
    losses = [EDGE.at(point, 2.0) for point in lattice(60)]
    region = region_of(fit)
    assert region.range == pytest.approx(max(losses) - min(losses), abs=1e-9)


def test_without_any_noise_only_the_optimum_is_left() -> None:
    fit = fitted(INTERIOR, noise_sd=0.0)
    assert fit.model == QUADRATIC
    best = optimum(fit, maximise=False)
    region = confidence_region(dataclasses.replace(fit, residual_sd=0.0), best, maximise=False)
    assert region.points.tolist() == [list(best.values)]
