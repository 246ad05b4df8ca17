"""Figures: what stands where, and nothing of a hostile text left unescaped."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from scalesearch.analysis.choice import Choice, choose
from scalesearch.analysis.comparison import finished_runs, two_way
from scalesearch.analysis.metrics import METRICS
from scalesearch.analysis.surfaces.polynomial import fit_polynomial
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.analysis.validation import COLUMNS
from scalesearch.report.figures.candidates import (
    accuracy_over,
    cost,
    error_distribution,
    leaderboard,
    learning_curves,
    triangle,
    validation,
    validation_over_macs,
)
from scalesearch.report.figures.cost import COSTS
from scalesearch.report.figures.style import VERMILION
from scalesearch.report.figures.triangle import CORNERS, points
from scalesearch.report.views.results import short_name
from scalesearch.results.records import Failure
from scalesearch.scaling.simplex import NAMES, Shares
from tests.planted import PlantedSurface, planted_candidates, planted_records
from tests.report.pages import level_records

BAD = planted_candidates()[3]
RECORDS = planted_records(
    PlantedSurface(), fail=lambda c: Failure("error", "<script>alert(1)</script>" * 9) if c == BAD else None
)


def chosen(metric: str) -> Choice:
    return choose(trials_table(RECORDS), candidates_table(RECORDS, 2.0, metric), 2.0, metric)


def validated(*rows: tuple[str, float, float]) -> pd.DataFrame:
    """A validation's table of (splits, macs ratio, loss), the rule's first; no rival differs beyond noise."""
    rule_loss = rows[0][2]
    table = pd.DataFrame(
        [
            (name, 0.2, 0.3, 0.5, ratio, 3, loss, loss - rule_loss, -0.1, 0.1, "" if place == 0 else "tied")
            for place, (name, ratio, loss) in enumerate(rows)
        ],
        columns=list(COLUMNS),
    )
    return table.astype(dict(COLUMNS))


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
    mark = np.linalg.solve(
        np.vstack([CORNERS.T, np.ones(3)]), [drawn["EfficientNet's own"].x[0], drawn["EfficientNet's own"].y[0], 1]
    )
    assert mark.round(2).tolist() == [0.28, 0.29, 0.43]


def test_the_labels_of_the_two_splits_point_away_from_each_other_and_from_the_corners():
    table, best = candidates_table(RECORDS, 2.0, "val_loss"), chosen("val_loss")
    up, down = -1, 1
    for depth, best_side, paper_side in ((0.5, up, down), (0.2, down, up), (0.0, up, up)):
        moved = replace(best, shares=Shares(depth, 0.4, 0.6 - depth))
        labels = {mark.text: mark.ay for mark in triangle(table, moved, "val_loss", 2.0).layout.annotations if mark.ay}
        sides = {name: math.copysign(1, ay) for name, ay in labels.items()}
        assert sides == {"best split": best_side, "EfficientNet's own": paper_side}


def test_the_contours_are_the_surface():
    table = candidates_table(RECORDS, 2.0, "val_loss")
    fit = fit_polynomial(table, 2.0, "val_loss")
    surface = traces(triangle(table, chosen("val_loss"), "val_loss", 2.0))["surface"]
    row, column = 50, 80
    depth = surface.y[row] / (math.sqrt(3) / 2)
    resolution = surface.x[column] - depth / 2
    expected = fit.predict(np.array([[depth, 1 - depth - resolution, resolution]]))[0]
    assert surface.z[row][column] == pytest.approx(expected, rel=1e-6)  # float32


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
    figure = leaderboard(table, trials_table(RECORDS), metric)
    drawn = traces(figure)["candidates"]
    values = list(drawn.x)
    assert values[0] == first(values)
    assert values == sorted(values, reverse=first is max)
    assert figure.layout.yaxis.autorange == "reversed"
    assert "95\u00a0%" in figure.layout.title.text
    model = two_way(finished_runs(trials_table(RECORDS), metric), metric)
    assert drawn.error_x.array == pytest.approx(
        student.ppf(0.975, model.error_df) * math.sqrt(model.error_variance / 3)
    )


def test_every_seed_of_the_leaderboard_is_a_dot_in_its_row():
    table = candidates_table(RECORDS, 2.0, "val_loss")
    drawn = traces(leaderboard(table, trials_table(RECORDS), "val_loss"))
    dots = drawn["seeds"]
    rows = dict(zip(drawn["candidates"].y, drawn["candidates"].x, strict=True))
    assert len(dots.x) == 3 * len(rows)
    assert {text: list(dots.text).count(text) for text in dots.text} == dict.fromkeys(
        ["seed 0", "seed 1", "seed 2"], len(rows)
    )
    for label, mean in rows.items():
        values = [x for x, y in zip(dots.x, dots.y, strict=True) if y == label]
        assert np.mean(values) == pytest.approx(mean)


def test_learning_curves_are_means_and_the_best_stands_out():
    figure = learning_curves(RECORDS, "val_loss")
    done = [record for record in RECORDS if record.failure is None]
    best = min(done, key=lambda record: record.mean("val_loss"))
    drawn = figure.data[-1]
    assert drawn.name.startswith("best: α")
    assert figure.layout.showlegend
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
    assert "widths 22 32 54 84" in text


def test_axes_carry_units():
    table = candidates_table(RECORDS, 2.0, "val_loss")
    assert leaderboard(table, trials_table(RECORDS), "val_loss").layout.xaxis.title.text == "validation loss (nats)"
    assert learning_curves(RECORDS, "val_accuracy").layout.yaxis.title.text == "validation accuracy (fraction right)"
    assert "× baseline" in cost(table, 2.0).layout.yaxis.title.text


def test_one_seed_has_no_error_bars_and_claims_none():
    records = planted_records(PlantedSurface(), seeds=(0,))
    figure = leaderboard(candidates_table(records, 2.0, "val_loss"), trials_table(records), "val_loss")
    assert "95\u00a0%" not in figure.layout.title.text
    assert [trace.name for trace in figure.data] == ["candidates"]
    assert set(figure.data[0].error_x.array) == {0.0}


def test_the_error_distribution_rises_by_one_candidate_at_each_error():
    table = candidates_table(RECORDS, 2.0, "val_loss")
    figure = error_distribution(table)
    (line,) = figure.data
    errors = sorted(1 - table.loc[table["status"] == "done", "val_accuracy"])
    assert line.line.shape == "hv"
    assert list(line.x[1:-1]) == pytest.approx(errors)
    assert line.x[0] < errors[0] < errors[-1] < line.x[-1]
    assert list(line.y) == pytest.approx([*(np.arange(15) / 14), 1.0])
    assert f"median {np.median(errors):.2%}" in figure.layout.title.text


@pytest.mark.parametrize("column", list(COSTS))
def test_accuracy_stands_over_each_cost(column: str):
    table = candidates_table(RECORDS, 2.0, "val_loss")
    figure = accuracy_over(table, column)
    (drawn,) = figure.data
    done = table[table["status"] == "done"].sort_values("val_accuracy", ascending=False)
    assert list(drawn.x) == done[column].tolist()
    assert list(drawn.y) == done["val_accuracy"].tolist()
    assert list(drawn.error_y.array) == pytest.approx((done["val_accuracy_sd"] / math.sqrt(3)).tolist())
    assert figure.layout.xaxis.type == "linear"
    rank = done[column].rank().corr(done["val_accuracy"].rank())
    assert f"(rank correlation {rank:.2f})".replace("-", "−") in figure.layout.title.text


def test_an_unknown_cost_is_named():
    with pytest.raises(ValueError, match="`column` must be one of macs, activations, seconds, but got 'joules'"):
        accuracy_over(candidates_table(RECORDS, 2.0, "val_loss"), "joules")


@pytest.mark.parametrize("metric", list(METRICS))
def test_levels_of_the_budget_are_told_apart_in_every_figure(metric: str):
    records = level_records()
    table, trials = candidates_table(records, 2.0, metric), trials_table(records)
    low = table[table["phi"] == 1]
    assert len(low) == len(table) - len(low) == 15
    rows = traces(leaderboard(table, trials, metric))["candidates"]
    assert [label.split(".")[0] for label in rows.y] == [
        f"φ {phi}:  {place}" for phi in (1, 2) for place in range(1, 16)
    ]
    assert [place for place, colour in enumerate(rows.marker.color) if colour == VERMILION] == [0, 15]
    assert sorted(traces(triangle(table, None, metric, 2.0))["candidates"].marker.color) == sorted(low[metric])
    best = {name: trace for name, trace in traces(learning_curves(records, metric)).items() if "best" in name}
    assert [name.split(":")[0] for name in best] == ["best at φ = 1", "best at φ = 2"]
    assert [trace.y[-1] for trace in best.values()] == pytest.approx([low[metric].iloc[0], table[metric].iloc[15]])
    assert {"budget 2×", "budget 4×"} < set(traces(cost(table, 2.0)))
    assert [trace.name for trace in error_distribution(table).data] == ["φ = 1 (n = 15)", "φ = 2 (n = 15)"]
    assert accuracy_over(table, "macs").layout.xaxis.type == "linear"  # about twofold
    assert accuracy_over(table.assign(macs=table["macs"] ** 2), "macs").layout.xaxis.type == "log"


def test_validation_over_macs_has_a_line_for_each_split_and_the_rules_on_top():
    tables = {
        1.0: validated(("the rule", 2.01, 0.40), ("width only, ≈ equal shares", 1.99, 0.41)),
        2.0: validated(("the rule, equal shares", 4.02, 0.35), ("depth only", 4.0, 0.36), ("width only", 3.98, 0.37)),
    }
    figure = validation_over_macs(tables, "val_loss")
    drawn = traces(figure)
    assert list(drawn) == ["width only", "depth only", "equal shares", "the rule"]  # the last one is drawn on top
    assert (drawn["the rule"].x, drawn["the rule"].y) == ((2.01, 4.02), (0.40, 0.35))
    assert (drawn["equal shares"].x, drawn["equal shares"].y) == ((1.99, 4.02), (0.41, 0.35))
    assert drawn["depth only"].x == (4.0,)
    assert drawn["the rule"].line.color == VERMILION
    looks = {(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in figure.data}
    assert len(looks) == 4
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.yaxis.title.text == "test loss (nats)"


def test_nine_splits_look_different():
    rows = [(f"split {place}", 2.0, 0.4) for place in range(9)]
    figure = validation_over_macs({1.0: validated(*rows), 2.0: validated(*rows)}, "val_loss")
    assert len({(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in figure.data}) == 9


def test_every_figure_is_told_in_words_for_those_who_do_not_see_it():
    table, trials, best = candidates_table(RECORDS, 2.0, "val_loss"), trials_table(RECORDS), chosen("val_loss")
    rows = ("the rule", 2.0, 0.4), ("width only", 2.0, 0.41)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(NAMES, best.shares.values, strict=True))
    first = table.iloc[0]
    words = {
        f"The best split: {shares}": triangle(table, best, "val_loss", 2.0),
        f"from 1.  {short_name(first)}, {first['val_loss']:.4f}, to": leaderboard(table, trials, "val_loss"),
        f"to {first['val_loss']:.4f}": learning_curves(RECORDS, "val_loss"),
        "real from 1.9": cost(table, 2.0),
        "Accuracy over activations": accuracy_over(table, "activations"),
        "median": error_distribution(table),
        "width only +0.0100, tied": validation(validated(*rows), 2.0, "val_loss"),
        "the rule from 0.4000 to 0.4000": validation_over_macs(dict.fromkeys((1.0, 2.0), validated(*rows)), "val_loss"),
    }
    for sentence, figure in words.items():
        assert sentence in figure.layout.meta["alt"]


@pytest.mark.parametrize("records", [(), RECORDS[3:4], RECORDS[5:6]], ids=["none", "a failed one", "one"])
def test_figures_of_next_to_nothing_are_drawn(records):
    table, trials = candidates_table(records, 2.0, "val_loss"), trials_table(records)
    figures = [
        triangle(table, None, "val_loss", 2.0), leaderboard(table, trials, "val_loss"),
        learning_curves(records, "val_loss"), cost(table, 2.0), error_distribution(table),
        *(accuracy_over(table, column) for column in COSTS), validation_over_macs({}, "val_loss"),
    ]  # fmt: skip
    for figure in figures:
        assert "nan" not in figure.layout.title.text + figure.layout.meta["alt"]
        assert not np.isnan(figure.layout.xaxis.range or 0).any()
