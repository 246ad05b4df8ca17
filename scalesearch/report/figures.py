"""The plotly figures of a run beside the triangle: leaderboard, learning curves, nominal against real cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.tables import merged_records
from scalesearch.records import DONE, TrialRecord
from scalesearch.report.style import BLUE, GREY, INK, VERMILION, gapped, network_text, short_name, styled
from scalesearch.report.triangle import triangle

__all__ = ["cost", "leaderboard", "learning_curves", "triangle", "validation"]

LEADERS = 20
# Curves in grey at most: more of them hide one another.
CURVES = 60


def leaderboard(candidates: pd.DataFrame, metric: str) -> go.Figure:
    """The best candidates, best on top: mean over the seeds and, as bars, ± one standard error of it.

    `candidates` has `tables.CANDIDATE_COLUMNS`. Raises `ValueError` for an unknown metric.
    """
    kind = metric_of(metric)
    done = candidates[candidates["status"].eq(DONE)].sort_values(metric, ascending=not kind.maximise, kind="stable")
    best = done.head(LEADERS)
    error = (best[f"{metric}_sd"] / np.sqrt(best["seeds"].clip(lower=1))).fillna(0.0)
    labels = [f"{rank}.  {short_name(row)}" for rank, (_, row) in enumerate(best.iterrows(), 1)]
    figure = go.Figure(
        go.Scatter(
            x=best[metric],
            y=labels,
            mode="markers",
            marker={"size": 10, "color": [VERMILION] + [BLUE] * (len(best) - 1)},
            error_x={"array": error, "color": GREY, "thickness": 1.5, "width": 4},
            text=network_text(best),
            hoverinfo="text",
            name="candidates",
        )
    )
    bars = ", ± one standard error over the seeds" if error.gt(0).any() else ""
    shown = f"the best {len(best)} of {len(done)} candidates" if len(done) > LEADERS else f"{len(done)} candidates"
    styled(figure, f"Leaderboard: {shown}{bars}", 130 + 26 * max(len(best), 3))
    figure.update_xaxes(title_text=f"{kind.label} ({kind.unit})")
    figure.update_yaxes(autorange="reversed", type="category", automargin=True, showgrid=True)
    return figure


def validation(table: pd.DataFrame, phi: float, metric: str) -> go.Figure:
    """How much better the rule's network is than each rival, with intervals; `table` has `validation.COLUMNS`."""
    kind = metric_of(metric)
    rivals = table[table["verdict"].ne("")]
    colours = {"better": BLUE, "worse": VERMILION}
    figure = go.Figure(
        go.Scatter(
            x=rivals["better_by"],
            y=rivals["rivals"],
            mode="markers",
            marker={"size": 10, "color": [colours.get(verdict, GREY) for verdict in rivals["verdict"]]},
            error_x={"array": (rivals["high"] - rivals["better_by"]).fillna(0.0), "color": GREY, "thickness": 1.5},
            hovertemplate="%{y}: %{x:+.4f}<extra></extra>",
            name="rivals",
        )
    )
    figure.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dash"})
    styled(figure, f"The rule against other splits at equal macs, φ = {phi:g}", 150 + 30 * max(len(rivals), 3))
    figure.update_xaxes(title_text=f"{kind.on_test}: rule better by ({kind.unit})")
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    return figure


def learning_curves(records: Sequence[TrialRecord], metric: str) -> go.Figure:
    """`metric` after each epoch, mean over the seeds: the best candidate in colour, the others in grey.

    Raises `ValueError` for an unknown metric.
    """
    kind = metric_of(metric)
    done = [record for record in merged_records(records).values() if record.failure is None]
    done.sort(key=lambda record: record.mean(metric), reverse=kind.maximise)
    others = done[1:]
    longest = max((len(seed.train_loss) for record in done for seed in record.seeds), default=0)
    step = max(1, math.ceil(len(others) / CURVES))
    x, y = gapped(_curve(record, metric) for record in others[::step])
    figure = go.Figure(
        go.Scatter(
            x=x, y=y, mode="lines", line={"color": GREY, "width": 1}, opacity=0.6, hoverinfo="skip", name="others"
        )
    )
    for record in done[:1]:
        epochs, values = _curve(record, metric)
        own = record.candidate.coefficients
        name = f"best: α {own.alpha:.2f} β {own.beta:.2f} γ {own.gamma:.2f}"
        figure.add_scatter(
            x=epochs, y=values, mode="lines+markers", line={"color": VERMILION, "width": 2.5}, name=name,
            hovertemplate="epoch %{x}: %{y:.4f}<extra></extra>",
        )  # fmt: skip
        figure.add_annotation(
            x=0.98, y=0.96, xref="paper", yref="paper", xanchor="right", text=name, showarrow=False,
            font={"color": VERMILION},
        )  # fmt: skip
    shown = f"the best and every {step}th of the others" if step > 1 else f"{len(done)} candidates"
    styled(figure, f"Learning curves, mean over the seeds: {shown}", 420)
    figure.update_xaxes(title_text="epoch", dtick=1 if longest <= 20 else None)
    figure.update_yaxes(title_text=f"{kind.label} ({kind.unit})")
    return figure


def _curve(record: TrialRecord, metric: str) -> tuple[list[float], list[float]]:
    curves = [getattr(seed, f"{metric}_curve") for seed in record.seeds]
    epochs = min(map(len, curves))
    mean = np.mean([curve[:epochs] for curve in curves], axis=0)
    return [float(epoch) for epoch in range(1, epochs + 1)], mean.tolist()


def cost(candidates: pd.DataFrame, budget: float) -> go.Figure:
    """Nominal cost α·β²·γ² of the multipliers against the exact macs of the network that they round to.

    `candidates` has `tables.CANDIDATE_COLUMNS`; both axes are multiples of the baseline's macs.
    """
    nominal = candidates["nominal_alpha"] * candidates["nominal_beta"] ** 2 * candidates["nominal_gamma"] ** 2
    real = candidates["macs_ratio"]
    low, high = min(nominal.min(), real.min(), budget), max(nominal.max(), real.max(), budget)
    pad = 0.06 * (high - low) or 0.05
    ends = [low - pad, high + pad]
    figure = go.Figure(
        go.Scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "width": 1}, hoverinfo="skip", name="equal")
    )
    figure.add_hline(y=budget, line={"color": VERMILION, "width": 1.5, "dash": "dash"})
    figure.add_scatter(
        x=nominal,
        y=real,
        mode="markers",
        marker={"size": 10, "color": BLUE, "opacity": 0.8, "line": {"color": INK, "width": 0.5}},
        text=network_text(candidates),
        hoverinfo="text",
        name="candidates",
    )
    figure.add_annotation(
        x=1, xref="paper", xanchor="right", y=budget, yanchor="bottom", text=f"budget {budget:g}×", showarrow=False,
        font={"color": VERMILION},
    )  # fmt: skip
    figure.add_annotation(
        x=ends[0] + 0.12 * (ends[1] - ends[0]), y=ends[0] + 0.05 * (ends[1] - ends[0]), xanchor="left",
        text="nominal = real", showarrow=False, font={"color": GREY},
    )  # fmt: skip
    styled(figure, "What rounding does to the cost", 440)
    figure.update_xaxes(title_text="nominal cost α·β²·γ² (× baseline)", range=ends)
    figure.update_yaxes(title_text="real cost, exact macs (× baseline)", range=ends)
    return figure
