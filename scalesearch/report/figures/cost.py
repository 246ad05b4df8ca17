"""Figures of cost: nominal against real macs, and accuracy over macs, activations and training time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scalesearch.report.figures.style import (
    BLUE,
    GREY,
    INK,
    VERMILION,
    leaders,
    network_text,
    ranked,
    standard_error,
    styled,
    with_legend,
)
from scalesearch.runtime.text import plural

# Column of the candidates' table → its label, its unit.
COSTS: Mapping[str, tuple[str, str]] = {
    "macs": ("macs", "one forward pass"),
    "activations": ("activations", "one forward pass"),
    "seconds": ("training time", "seconds a seed"),
}
# Costs that differ by more than this are shown on a logarithmic axis: levels of the budget.
LOGARITHMIC = 3


def cost(candidates: pd.DataFrame, budget: float) -> go.Figure:
    """Nominal cost α·β²·γ² of the multipliers against the exact macs of the network that they round to.

    `candidates` has `tables.CANDIDATE_COLUMNS`; both axes are multiples of the baseline's macs. The budget of a level
    is `budget`^φ.
    """
    nominal = candidates["nominal_alpha"] * candidates["nominal_beta"] ** 2 * candidates["nominal_gamma"] ** 2
    real = candidates["macs_ratio"]
    budgets = [budget**phi for phi in sorted(candidates["phi"].unique())] or [budget]
    low, high = min(*nominal, *real, *budgets, budget), max(*nominal, *real, *budgets, budget)
    pad = 0.06 * (high - low) or 0.05
    ends = [low - pad, high + pad]
    line = {"color": GREY, "width": 1}
    figure = go.Figure(go.Scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", name="nominal = real"))
    for allowed in budgets:
        line = {"color": VERMILION, "width": 1.5, "dash": "dash"}
        figure.add_scatter(
            x=ends, y=[allowed] * 2, mode="lines", line=line, hoverinfo="skip", name=f"budget {allowed:g}×"
        )
    figure.add_scatter(
        x=nominal,
        y=real,
        mode="markers",
        marker={"size": 10, "color": BLUE, "opacity": 0.8, "line": {"color": INK, "width": 0.5}},
        text=network_text(candidates),
        hoverinfo="text",
        name="candidates",
    )
    alt = f"Nominal and real cost of {plural(len(candidates), 'candidate')}"
    if len(candidates):
        alt += (
            f": nominal from {nominal.min():.2f}× to {nominal.max():.2f}× the baseline, "
            f"real from {real.min():.3f}× to {real.max():.3f}×"
        )
    with_legend(styled(figure, "What rounding does to the cost", 460, f"{alt}."))
    figure.update_xaxes(title_text="nominal cost α·β²·γ² (× baseline)", range=ends)
    figure.update_yaxes(title_text="real cost, exact macs (× baseline)", range=ends)
    return figure


def accuracy_over(candidates: pd.DataFrame, column: str) -> go.Figure:
    """Validation accuracy of the finished candidates over a cost, with ± one standard error over the seeds.

    `column` is one of `COSTS`; `candidates` has `tables.CANDIDATE_COLUMNS`. Raises `ValueError` for another column.
    """
    if column not in COSTS:
        raise ValueError(f"`column` must be one of {', '.join(COSTS)}, but got {column!r}")
    name, unit = COSTS[column]
    done = ranked(candidates, "val_accuracy")
    spent, gained = done[column], done["val_accuracy"]
    figure = go.Figure(
        go.Scatter(
            x=spent,
            y=gained,
            mode="markers",
            marker={"size": 9, "color": np.where(leaders(done), VERMILION, BLUE)},
            error_y={"array": standard_error(done, "val_accuracy"), "color": GREY, "thickness": 1.2, "width": 3},
            text=network_text(done),
            hoverinfo="text",
            name="candidates",
        )
    )
    varied = len(done) > 2 and spent.nunique() > 1 and gained.nunique() > 1
    rank = spent.corr(gained, method="spearman") if varied else np.nan
    title = f"Accuracy over {name}" + ("" if np.isnan(rank) else f" (rank correlation {rank:.2f})".replace("-", "−"))
    alt = f"{title}: {plural(len(done), 'candidate')}"
    if len(done):
        alt += (
            f", {name} from {spent.min():,.6g} to {spent.max():,.6g}, accuracy {gained.min():.2%} to {gained.max():.2%}"
        )
    styled(figure, title, 340, f"{alt}.")
    wide = len(done) > 0 and spent.max() > LOGARITHMIC * spent.min() > 0
    figure.update_xaxes(title_text=f"{name} ({unit})", tickformat="~s", nticks=5, type="log" if wide else "linear")
    figure.update_yaxes(title_text="validation accuracy", tickformat=".2~%", automargin=True)
    return figure
