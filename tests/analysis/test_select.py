"""The choice of a surface: when alternatives to the polynomial are tried, and which error the surface has."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from scalesearch.analysis.comparison import TwoWay, finished_runs, two_way
from scalesearch.analysis.select import SIZES, lack_of_fit, select_surface
from scalesearch.analysis.surfaces.base import InsufficientTrials, Surface
from scalesearch.analysis.surfaces.mixture import QUADRATIC
from scalesearch.analysis.surfaces.polynomial import fit_polynomial
from scalesearch.analysis.surfaces.process import MODEL
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.records import TrialRecord
from tests.planted import FUNNEL, PlantedSurface, planted_candidates, planted_records

FUNNEL_RECORDS = planted_records(FUNNEL, candidates=planted_candidates(degree=4))  # 15 candidates


def model_of(records: tuple[TrialRecord, ...]) -> TwoWay:
    return two_way(finished_runs(trials_table(records), "val_loss"), "val_loss")


def selected(records: tuple[TrialRecord, ...], sizes: range = SIZES) -> tuple[Surface, float | None]:
    table = candidates_table(records, 2.0, "val_loss")
    return select_surface(table, 2.0, "val_loss", model_of(records), sizes)


def test_a_process_is_tried_if_the_polynomial_does_not_fit() -> None:
    polynomial = fit_polynomial(candidates_table(FUNNEL_RECORDS, 2.0, "val_loss"), 2.0, "val_loss")
    p = lack_of_fit(polynomial, model_of(FUNNEL_RECORDS))
    assert p is not None
    assert p < 1e-6
    surface, _ = selected(FUNNEL_RECORDS)
    assert {MODEL, QUADRATIC} <= set(dict(surface.validation))
    surface, p = selected(planted_records(PlantedSurface()))
    assert p is not None
    assert p > 0.05
    assert MODEL not in dict(surface.validation)


def test_it_is_not_tried_on_few_candidates_nor_on_very_many() -> None:
    few, _ = selected(FUNNEL_RECORDS, range(16, 301))
    assert (few.model, few.model_note) == (QUADRATIC, "")
    assert MODEL not in dict(few.validation)
    many, _ = selected(FUNNEL_RECORDS, range(5, 15))
    assert (many.model, many.model_note) == (QUADRATIC, "other surfaces are not fitted to more than 14 candidates")


@pytest.mark.parametrize(("deviation", "pooled"), [(0.0, True), (0.004, False)])
def test_the_error_is_pooled_with_the_seeds_if_there_is_no_lack_of_fit(deviation: float, pooled: bool) -> None:
    """Seed noise is 0.005 for a run and 0.003 for a mean; the p values of the lack of fit are 0.71 and 0.03."""
    records = planted_records(PlantedSurface(), key=10)
    extra = deviation * np.random.default_rng(0).standard_normal(len(records))
    records = tuple(
        dataclasses.replace(
            record,
            seeds=tuple(dataclasses.replace(seed, val_loss_curve=(seed.val_loss + more,)) for seed in record.seeds),
        )
        for record, more in zip(records, extra.tolist(), strict=True)
    )
    model, fit = model_of(records), fit_polynomial(candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")
    surface, p = selected(records, range(0))
    assert p == lack_of_fit(fit, model)
    assert model.error_variance is not None
    squares = fit.residual_sd**2 * fit.residual_df + model.error_variance * model.error_df
    df = fit.residual_df + model.error_df
    expected = (np.sqrt(squares / df), df) if pooled else (fit.residual_sd, fit.residual_df)
    assert (surface.residual_sd, surface.residual_df) == pytest.approx(expected)


def test_a_linear_surface_is_not_selected() -> None:
    with pytest.raises(InsufficientTrials, match="a linear surface always has its optimum in a corner"):
        selected(planted_records(PlantedSurface())[:7])


def test_scikit_learn_is_imported_only_for_a_process() -> None:
    code = "import sys, scalesearch.analysis.choice; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
