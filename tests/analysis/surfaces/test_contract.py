"""The contract of a response surface: every kind passes the same tests. Add a new kind to `SURFACES`."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from scalesearch.analysis.optimum import optimum
from scalesearch.analysis.region import confidence_region
from scalesearch.analysis.statistics import FloatArray
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.analysis.surfaces.mixture import CUBIC, LINEAR, QUADRATIC
from scalesearch.analysis.surfaces.polynomial import fit_polynomial
from scalesearch.analysis.surfaces.process import MODEL, fit_process
from scalesearch.analysis.tables import SHARE_COLUMNS, candidates_table
from scalesearch.scaling.simplex import lattice
from tests.planted import FUNNEL, Planted, PlantedSurface, planted_candidates, planted_records

POINTS = np.array([point.values for point in lattice(20)])
NOISE_SD = 0.005


def table_of(planted: Planted, degree: int) -> pd.DataFrame:
    """Candidates that cost the budget exactly, so that no covariate hides an error of the surface."""
    candidates = planted_candidates(degree=degree)
    records = planted_records(planted, candidates=candidates, noise_sd=NOISE_SD)
    return candidates_table(records, 2.0, "val_loss").assign(macs_ratio=2.0)


def linear_table() -> pd.DataFrame:
    # The corners, two edges and the middle: too few for a quadratic.
    table = table_of(PlantedSurface(linear=(0.9, 0.5, 0.6), interaction=(0.0, 0.0, 0.0)), 4)
    return table.set_index("candidate").loc[[0, 4, 14, 6, 9, 2]].reset_index()


def cubic_table() -> pd.DataFrame:
    table = table_of(PlantedSurface(), 6)
    return table.assign(val_loss=table["val_loss"] + 2.0 * table[SHARE_COLUMNS].prod(axis=1))


def polynomial(table: pd.DataFrame) -> Surface:
    return fit_polynomial(table, 2.0, "val_loss")


def process(table: pd.DataFrame) -> Surface:
    return fit_process(fit_polynomial(table, 2.0, "val_loss"), table, NOISE_SD**2)


SURFACES: dict[str, tuple[Callable[[pd.DataFrame], Surface], pd.DataFrame]] = {
    LINEAR: (polynomial, linear_table()),
    QUADRATIC: (polynomial, table_of(PlantedSurface(), 4)),
    CUBIC: (polynomial, cubic_table()),
    MODEL: (process, table_of(FUNNEL, 6)),
}


@pytest.fixture(scope="module", params=SURFACES)
def kind(request: pytest.FixtureRequest) -> tuple[Surface, pd.DataFrame]:
    """A surface and the table that it was fitted to."""
    fit, table = SURFACES[request.param]
    surface = fit(table)
    assert surface.model == request.param
    return surface, table


@pytest.fixture(scope="module")
def surface(kind: tuple[Surface, pd.DataFrame]) -> Surface:
    return kind[0]


both_directions = pytest.mark.parametrize("maximise", [False, True])


def better(values: FloatArray, maximise: bool) -> float:
    return float(values.max() if maximise else values.min())


def test_it_is_immutable_and_says_what_it_is(kind: tuple[Surface, pd.DataFrame]) -> None:
    surface, table = kind
    with pytest.raises(dataclasses.FrozenInstanceError):
        surface.metric = "val_accuracy"  # type: ignore[misc]
    assert (surface.metric, surface.budget, surface.n) == ("val_loss", 2.0, len(table))
    assert len(surface.left_out) == len(surface.influence) == surface.n
    assert surface.model in dict(surface.validation)
    assert 0 <= surface.p <= 1
    assert surface.residual_sd > 0
    assert 0 < surface.residual_df < surface.n
    assert surface.adjusted_r2 <= 1


def test_its_parameters_are_a_table_of_text(surface: Surface) -> None:
    heading, rows = surface.parameters()
    cells = [heading, *rows]
    assert len(cells) > 1
    assert {len(row) for row in cells} == {len(heading)}
    assert all(isinstance(cell, str) and cell for row in cells for cell in row)


def test_it_follows_the_candidates(kind: tuple[Surface, pd.DataFrame]) -> None:
    surface, table = kind
    predicted = surface.predict(table[SHARE_COLUMNS].to_numpy(float))
    assert predicted.shape == (surface.n,)
    # Least squares or a posterior mean: residuals are no larger than a few standard deviations of a mean of three.
    assert np.abs(predicted - table["val_loss"].to_numpy()).max() < 4 * surface.residual_sd / np.sqrt(3)


def test_standard_errors_are_positive_and_smaller_near_candidates(kind: tuple[Surface, pd.DataFrame]) -> None:
    surface, table = kind
    errors = surface.standard_error(POINTS)
    assert errors.shape == (len(POINTS),)
    assert (errors > 0).all()
    assert surface.standard_error(table[SHARE_COLUMNS].to_numpy(float)).min() < errors.max()


def test_every_method_gives_the_same_result_again(surface: Surface) -> None:
    best = optimum(surface, maximise=False)
    for once, again in (
        (surface.predict(POINTS), surface.predict(POINTS)),
        (surface.optimum_candidates(False), surface.optimum_candidates(False)),
        (surface.may_be_optimum(POINTS, False), surface.may_be_optimum(POINTS, False)),
    ):
        assert once.tolist() == again.tolist()
    assert surface.regret_bound(best, POINTS, False) == surface.regret_bound(best, POINTS, False)


@both_directions
def test_no_point_is_better_than_its_optimum(surface: Surface, maximise: bool) -> None:
    candidates = surface.optimum_candidates(maximise)
    assert (candidates >= 0).all()
    assert candidates.sum(axis=1) == pytest.approx(np.ones(len(candidates)))
    sign = -1 if maximise else 1
    best = better(surface.predict(candidates), maximise)
    assert sign * best <= sign * better(surface.predict(POINTS), maximise) + 1e-11  # as near as a solver comes
    assert surface.predict([optimum(surface, maximise).values])[0] == pytest.approx(best, abs=1e-9)


@both_directions
def test_its_region_contains_the_optimum_and_grows_with_the_level(surface: Surface, maximise: bool) -> None:
    best = optimum(surface, maximise)
    assert surface.may_be_optimum(np.array([best.values]), maximise).tolist() == [True]
    levels = (0.5, 0.95, 0.999)
    points = np.vstack([confidence_region(surface, best, maximise, level).points for level in levels])
    inside = [surface.may_be_optimum(points, maximise, level) for level in levels]
    assert all(some.shape == (len(points),) and some.dtype == bool for some in inside)
    for narrow, wide in pairwise(inside):
        assert (wide | ~narrow).all()
    assert inside[-1].all()


@both_directions
def test_the_regret_is_bounded_and_its_bound_grows_with_the_level(surface: Surface, maximise: bool) -> None:
    best = optimum(surface, maximise)
    region = confidence_region(surface, best, maximise)
    low, high = (surface.regret_bound(best, region.points, maximise, level) for level in (0.8, 0.99))
    assert 0 <= low <= region.regret <= high


def test_another_error_changes_no_prediction(surface: Surface) -> None:
    other = surface.with_error(4 * surface.residual_sd**2, 40.0)
    assert type(other) is type(surface)
    assert other.predict(POINTS).tolist() == surface.predict(POINTS).tolist()
    errors, before = other.standard_error(POINTS), surface.standard_error(POINTS)
    # The errors of a surface that does not take its error from the seeds scale; those of the others stay.
    factor = 1.0 if other is surface else 2.0
    assert errors == pytest.approx(factor * before)
    assert other is surface or (other.residual_sd, other.residual_df) == (2 * surface.residual_sd, 40.0)


def test_without_a_candidate_it_predicts_what_left_out_says(kind: tuple[Surface, pd.DataFrame]) -> None:
    surface, table = kind
    shares, losses = table[SHARE_COLUMNS].to_numpy(float), table["val_loss"].to_numpy()
    for index in range(0, surface.n, 3):
        predicted = surface.without(index).predict(shares[index : index + 1])[0]
        # The process has a regularised matrix: 1e-6 of losses near 0.5.
        assert losses[index] - predicted == pytest.approx(surface.left_out[index], abs=1e-6)
