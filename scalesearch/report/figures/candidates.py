"""The plotly figures of a run's candidates: leaderboard, learning curves, errors; re-exports the other figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scalesearch.analysis.comparison import finished_runs, two_way
from scalesearch.analysis.metrics import metric_of
from scalesearch.report.figures.cost import accuracy_over, cost
from scalesearch.report.figures.style import (
    BLUE,
    GREY,
    INK,
    LEVELS,
    VERMILION,
    gapped,
    leaders,
    network_text,
    ranked,
    styled,
    with_legend,
)
from scalesearch.report.figures.triangle import triangle
from scalesearch.report.figures.validation import validation, validation_over_macs
from scalesearch.report.views.results import short_name
from scalesearch.results.records import TrialRecord, merged_records
from scalesearch.runtime.text import plural

__all__ = [
    "accuracy_over", "cost", "error_distribution", "leaderboard", "learning_curves", "triangle", "validation",
    "validation_over_macs",
]  # fmt: skip

# Candidates per level.
LEADERS = 20
# At most this many grey curves: more would hide one another.
CURVES = 60


def leaderboard(
    candidates: pd.DataFrame, trials: pd.DataFrame, metric: str, reference: TrialRecord | None = None
) -> go.Figure:
    """The best candidates of each level, best on top: mean, its 95 % interval as bars, each seed as a dot.

    Below them stands the baseline, if there is a `reference` with a result. The tables have `tables.CANDIDATE_COLUMNS`
    and `TRIAL_COLUMNS`. Raises `ValueError` for an unknown metric.
    """
    kind = metric_of(metric)
    done = ranked(candidates, metric)
    best = done.groupby("phi").head(LEADERS)
    places, several = best.groupby("phi").cumcount() + 1, best["phi"].nunique() > 1
    labels = [
        (f"φ {row['phi']:g}:  " if several else "") + f"{place}.  {short_name(row)}"
        for place, row in zip(places, best.to_dict("records"), strict=True)
    ]
    runs, single = finished_runs(trials, metric), bool(best["seeds"].le(1).all())
    model = two_way(runs, metric)
    error = best["candidate"].map(dict(zip(model.candidates, model.half_widths(), strict=True)))
    figure = go.Figure()
    if not single:
        runs = runs[runs["candidate"].isin(best["candidate"])]
        figure.add_scatter(
            x=runs[metric],
            y=runs["candidate"].map(dict(zip(best["candidate"], labels, strict=True))),
            mode="markers",
            marker={"size": 6, "color": GREY, "opacity": 0.75},
            text=[f"seed {seed}" for seed in runs["seed"]],
            hovertemplate="%{text}: %{x:.4f}<extra></extra>",
            name="seeds",
        )
    figure.add_scatter(
        x=best[metric],
        y=labels,
        mode="markers",
        marker={"size": 10, "color": np.where(leaders(best), VERMILION, BLUE)},
        error_x={"array": error, "color": GREY, "thickness": 1.5, "width": 0},
        text=network_text(best),
        hoverinfo="text",
        name="candidates",
    )
    against = ""
    if reference is not None and reference.failure is None and labels:
        labels.append("baseline")
        seeds = reference.seeds[: 0 if single else None]
        figure.add_scatter(
            x=[*(getattr(seed, metric) for seed in seeds), reference.mean(metric)],
            y=["baseline"] * (len(seeds) + 1),
            mode="markers",
            marker={
                "size": [6] * len(seeds) + [10],
                "color": [GREY] * len(seeds) + [INK],
                "symbol": ["circle"] * len(seeds) + ["diamond"],
            },
            hovertemplate="baseline: %{x:.4f}<extra></extra>",
            name="baseline",
        )
        against = f" The baseline has {reference.mean(metric):.4f}."
    shown = (f"the best {len(best)} of " if len(best) < len(done) else "") + plural(len(done), "candidate")
    title = f"Leaderboard: {shown}"
    if not single:
        title += "; small dots: single seeds"
    if model.error_variance is not None:
        title += "; bars: 95\u00a0%, without what a seed does to all"
    ends = [f"{labels[row]}, {best[metric].iloc[row]:.4f}" for row in (0, len(best) - 1)] if labels else ["", ""]
    alt = f"{kind.label.capitalize()} of {shown}, from {ends[0]}, to {ends[1]}.{against}"
    styled(figure, title, 130 + 26 * max(len(labels), 3), alt)
    figure.update_xaxes(title_text=f"{kind.label} ({kind.unit})")
    figure.update_yaxes(
        autorange="reversed", type="category", categoryarray=labels, automargin=True, ticklabelstandoff=6
    )
    return figure


def learning_curves(records: Sequence[TrialRecord], metric: str, reference: TrialRecord | None = None) -> go.Figure:
    """`metric` after each epoch, mean over the seeds: the best candidate of each level in colour, the others in grey.

    The baseline is dashed, if there is a `reference` with a result. Raises `ValueError` for an unknown metric.
    """
    kind = metric_of(metric)
    done = [record for record in merged_records(records).values() if record.failure is None]
    done.sort(key=lambda record: record.mean(metric), reverse=kind.maximise)
    best = {record.phi: record for record in reversed(done)}
    others = [record for record in done if record is not best[record.phi]]
    longest = max((len(seed.train_loss) for record in done for seed in record.seeds), default=0)
    step = max(1, math.ceil(len(others) / CURVES))
    figure = go.Figure()
    if others:
        x, y = gapped(_curve(record, metric) for record in others[::step])
        line = {"color": GREY, "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, opacity=0.6, hoverinfo="skip", name="others")
    summaries = []
    for place, (phi, record) in enumerate(sorted(best.items())):
        epochs, values = _curve(record, metric)
        split = record.candidate.coefficients
        level = f" at φ = {phi:g}" if len(best) > 1 else ""
        summaries.append(f"the best{level} goes from {values[0]:.4f} to {values[-1]:.4f}")
        figure.add_scatter(
            x=epochs, y=values, mode="lines+markers", line={"color": LEVELS[place % len(LEVELS)], "width": 2.5},
            name=f"best{level}: α {split.alpha:.2f} β {split.beta:.2f} γ {split.gamma:.2f}",
            hovertemplate="epoch %{x}: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    if reference is not None and reference.failure is None:
        epochs, values = _curve(reference, metric)
        summaries.append(f"the baseline from {values[0]:.4f} to {values[-1]:.4f}")
        figure.add_scatter(
            x=epochs, y=values, mode="lines", line={"color": INK, "width": 2, "dash": "dash"}, name="baseline",
            hovertemplate="epoch %{x}: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    shown = f"the best and every {step}th of the others" if step > 1 else plural(len(done), "candidate")
    alt = (
        f"{kind.label.capitalize()} over {longest} epochs of {plural(len(done), 'candidate')}; {', '.join(summaries)}."
    )
    with_legend(styled(figure, f"Learning curves, mean over the seeds: {shown}", 440, alt))
    figure.update_xaxes(title_text="epoch", dtick=1 if longest <= 20 else None)
    figure.update_yaxes(title_text=f"{kind.label} ({kind.unit})")
    return figure


def _curve(record: TrialRecord, metric: str) -> tuple[list[float], list[float]]:
    curves = [getattr(seed, f"{metric}_curve") for seed in record.seeds]
    epochs = min(map(len, curves))
    mean = np.mean([curve[:epochs] for curve in curves], axis=0)
    return [float(epoch) for epoch in range(1, epochs + 1)], mean.tolist()


def error_distribution(candidates: pd.DataFrame) -> go.Figure:
    """The empirical distribution function of the candidates' validation errors, a line for each level.

    F(e) is the fraction of the finished candidates whose error, 1 − accuracy, is at most e. `candidates` has
    `tables.CANDIDATE_COLUMNS`. Source: Radosavovic et al., "Designing Network Design Spaces", arXiv:2003.13678 §3.1,
    where it is the fraction below e.
    """
    done = ranked(candidates, "val_accuracy")
    errors = 1 - done["val_accuracy"]
    levels = [(phi, level.to_numpy()) for phi, level in errors.groupby(done["phi"])]
    margin = 0.05 * (errors.max() - errors.min()) or 0.01
    figure, summaries, several = go.Figure(), [], len(levels) > 1
    for place, (phi, level_errors) in enumerate(levels):
        level = f"φ = {phi:g}: " if several else ""
        summaries.append(
            f"{level}{level_errors.min():.2%} to {level_errors.max():.2%}, median {np.median(level_errors):.2%}"
        )
        figure.add_scatter(
            x=[errors.min() - margin, *level_errors, errors.max() + margin],
            y=[*np.arange(len(level_errors) + 1) / len(level_errors), 1.0],
            mode="lines",
            line={"color": LEVELS[place % len(LEVELS)], "width": 2.5, "shape": "hv"},
            hovertemplate="%{y:.0%} of the candidates err at most %{x:.2%}<extra></extra>",
            name=f"φ = {phi:g} (n = {len(level_errors)})",
        )
    title = f"Distribution of the errors of {plural(len(done), 'candidate')}"
    styled(
        figure,
        f"{title}: {'; '.join(summaries)}",
        400,
        f"Part of the candidates over their error: {'; '.join(summaries)}.",
    )
    if several:
        with_legend(figure)
    figure.update_xaxes(title_text="validation error", tickformat=".2~%")
    figure.update_yaxes(title_text="fraction of candidates", tickformat=".0%", range=[0, 1.03])
    return figure
