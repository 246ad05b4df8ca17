"""Figures: what stands where, and nothing of a hostile text left unescaped."""

import math

import numpy as np
import pytest

from scalesearch.analysis.metrics import METRICS
from scalesearch.analysis.selection import Choice, choose
from scalesearch.analysis.surface import fit_surface
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.records import Failure
from scalesearch.report.figures import cost, leaderboard, learning_curves, triangle
from scalesearch.report.triangle import CORNERS, points
from tests.planted import PlantedSurface, planted_candidates, planted_records

BAD = planted_candidates()[3]
RECORDS = planted_records(
    PlantedSurface(), fail=lambda c: Failure("error", "<script>alert(1)</script>" * 9) if c == BAD else None
)


def chosen(metric: str) -> Choice:
    return choose(trials_table(RECORDS), candidates_table(RECORDS, 2.0, metric), 2.0, metric)


def traces(figure) -> dict:
    return {trace.name: trace for trace in figure.data}


@pytest.mark.parametrize("metric", list(METRICS))
def test_the_triangle_puts_candidates_optimum_and_paper_in_their_places(metric: str):
    table = candidates_table(RECORDS, 2.0, metric)
    best = chosen(metric)
    drawn = traces(triangle(table, best, metric, 2.0))
    assert best.region is not None
    assert np.column_stack([drawn["95% region"].x, drawn["95% region"].y]) == pytest.approx(points(best.region.points))
    done = table[table["status"] == "done"]
    # In an equilateral triangle the height of a point is depth's share of the triangle's height.
    assert np.array(drawn["candidates"].y) == pytest.approx(done["depth_share"].to_numpy() * math.sqrt(3) / 2)
    assert list(drawn["candidates"].marker.color) == done[metric].tolist()
    assert len(drawn["failed"].x) == 1
    assert (drawn["best split"].x[0], drawn["best split"].y[0]) == pytest.approx(
        points(np.array([best.shares.values]))[0]
    )
    # EfficientNet's coefficients have the shares 0.28, 0.29, 0.43 (arXiv:1905.11946 §3.3, logs of 1.2, 1.1², 1.15²).
    own = np.linalg.solve(
        np.vstack([CORNERS.T, np.ones(3)]), [drawn["EfficientNet's own"].x[0], drawn["EfficientNet's own"].y[0], 1]
    )
    assert own.round(2).tolist() == [0.28, 0.29, 0.43]


def test_the_contours_are_the_surface():
    table = candidates_table(RECORDS, 2.0, "val_loss")
    fit = fit_surface(table, 2.0, "val_loss")
    surface = traces(triangle(table, chosen("val_loss"), "val_loss", 2.0))["surface"]
    row, column = 50, 80
    depth = surface.y[row] / (math.sqrt(3) / 2)
    resolution = surface.x[column] - depth / 2
    expected = fit.predict(np.array([[depth, 1 - depth - resolution, resolution]]))[0]
    assert surface.z[row][column] == pytest.approx(expected, rel=1e-12)


def test_the_best_is_darkest_for_either_metric():
    scales = [
        traces(triangle(candidates_table(RECORDS, 2.0, m), None, m, 2.0))["candidates"].marker.colorscale
        for m in ("val_loss", "val_accuracy")
    ]
    assert scales[0][0][1] == scales[1][-1][1] == "#00224e"


def test_a_triangle_of_nothing_is_drawn():
    drawn = traces(triangle(candidates_table([], 2.0, "val_loss"), None, "val_loss", 2.0))
    assert len(drawn["candidates"].x) == 0
    assert "surface" not in drawn


@pytest.mark.parametrize(("metric", "first"), [("val_loss", min), ("val_accuracy", max)])
def test_the_leaderboard_has_the_best_on_top(metric: str, first):
    table = candidates_table(RECORDS, 2.0, "val_loss")  # sorted by the other metric in one of the cases
    figure = leaderboard(table, metric)
    values = list(figure.data[0].x)
    assert values[0] == first(values)
    assert values == sorted(values, reverse=first is max)
    assert figure.layout.yaxis.autorange == "reversed"
    assert "standard error" in figure.layout.title.text
    best = table[table["status"] == "done"].sort_values(metric, ascending=first is min).iloc[0]
    assert figure.data[0].error_x.array[0] == pytest.approx(best[f"{metric}_sd"] / math.sqrt(3))


def test_learning_curves_are_means_and_the_best_stands_out():
    figure = learning_curves(RECORDS, "val_loss")
    done = [record for record in RECORDS if record.failure is None]
    best = min(done, key=lambda record: record.mean("val_loss"))
    drawn = figure.data[-1]
    assert drawn.name.startswith("best")
    assert drawn.y[-1] == pytest.approx(best.mean("val_loss"))
    assert list(drawn.x) == [1, 2, 3]
    # Three epochs and a gap for each of the others.
    assert len(figure.data[0].x) == (len(done) - 1) * 4


def test_many_curves_are_thinned_and_the_title_says_so():
    many = RECORDS[4:5] * 1 + planted_records(PlantedSurface(), candidates=tuple(planted_candidates(degree=20)))
    figure = learning_curves(many, "val_loss")
    drawn = len(figure.data[0].x) // 4
    assert 30 <= drawn <= 60
    assert "every" in figure.layout.title.text


def test_cost_sets_the_nominal_beside_the_real():
    table = candidates_table(RECORDS, 2.0, "val_loss")
    drawn = traces(cost(table, 2.0))["candidates"]
    assert list(drawn.y) == table["macs_ratio"].tolist()
    by_number = dict(zip(table["candidate"].tolist(), drawn.x, strict=True))
    for number, record in enumerate(RECORDS):
        assert by_number[number] == pytest.approx(record.candidate.nominal.product)


def test_hovering_text_is_escaped_and_short():
    table = candidates_table(RECORDS, 2.0, "val_loss")
    (text,) = traces(triangle(table, None, "val_loss", 2.0))["failed"].text
    assert "<script" not in text
    assert "&lt;script" in text
    assert len(text) < 500
    assert "widths 20 30 52 82" in text


def test_axes_carry_units():
    table = candidates_table(RECORDS, 2.0, "val_loss")
    assert leaderboard(table, "val_loss").layout.xaxis.title.text == "validation loss (nats)"
    assert learning_curves(RECORDS, "val_accuracy").layout.yaxis.title.text == "validation accuracy (fraction right)"
    assert "× baseline" in cost(table, 2.0).layout.yaxis.title.text


def test_one_seed_has_no_error_bars_and_claims_none():
    table = candidates_table(planted_records(PlantedSurface(), seeds=(0,)), 2.0, "val_loss")
    figure = leaderboard(table, "val_loss")
    assert "standard error" not in figure.layout.title.text
    assert set(figure.data[0].error_x.array) == {0.0}
