"""Figures of the validation: the rule against its rivals, at one φ and over several."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from scalesearch.analysis.metrics import metric_of
from scalesearch.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    OCHRE,
    PURPLE,
    VERMILION,
    styled,
    with_legend,
)

# Rivals are distinguished by colour, dashes and symbol together.
_COLOURS, _DASHES = (BLUE, GREEN, PURPLE, OCHRE), ("solid", "dot", "dash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "pentagon", "hexagon2")


def validation(table: pd.DataFrame, phi: float, metric: str) -> go.Figure:
    """How much better the rule's network is than each rival, with intervals; `table` has `validation.COLUMNS`."""
    kind = metric_of(metric)
    rivals = table[table["verdict"].ne("")]
    colours = {"better": BLUE, "worse": VERMILION}
    figure = go.Figure(
        go.Scatter(
            x=rivals["better_by"],
            y=[name.replace(", ", ",<br>") for name in rivals["rivals"]],
            mode="markers",
            marker={"size": 10, "color": [colours.get(verdict, GREY) for verdict in rivals["verdict"]]},
            error_x={"array": (rivals["high"] - rivals["better_by"]).fillna(0.0), "color": GREY, "thickness": 1.5},
            hovertemplate="%{y}: %{x:+.4f}<extra></extra>",
            name="rivals",
        )
    )
    figure.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dash"})
    summaries = (f"{row['rivals']} {row['better_by']:+.4f}, {row['verdict']}" for row in rivals.to_dict("records"))
    alt = f"By how much the rule's network is better at φ = {phi:g}: {'; '.join(summaries) or 'no rival'}."
    styled(
        figure,
        f"{kind.on_test.capitalize()}: the rule against other splits at equal macs, φ = {phi:g}",
        150 + 30 * max(len(rivals), 3),
        alt,
    )
    figure.update_xaxes(title_text=f"rule better by ({kind.unit})")
    figure.update_yaxes(autorange="reversed", type="category", automargin=True, ticklabelstandoff=6)
    return figure


def validation_over_macs(tables: Mapping[float, pd.DataFrame], metric: str) -> go.Figure:
    """The metric on the test split over macs, a line for each split: as baselines grow (φ → `validation.COLUMNS`).

    Source: Tan and Le, arXiv:1905.11946, Figure 8.
    """
    kind = metric_of(metric)
    lines = _lines(tables)
    figure = go.Figure()
    for place, (name, (macs, values)) in reversed(list(enumerate(lines.items()))):
        colour, dash, width = (
            (VERMILION, "solid", 3.5)
            if place == 0
            else (_COLOURS[(place - 1) % len(_COLOURS)], _DASHES[(place - 1) // len(_COLOURS) % len(_DASHES)], 1.8)
        )
        figure.add_scatter(
            x=macs, y=values, mode="lines+markers", name=name, line={"color": colour, "dash": dash, "width": width},
            marker={"size": 10 if place == 0 else 8, "symbol": "star" if place == 0 else _SYMBOLS[(place - 1) % 8]},
            hovertemplate=f"{name}: %{{y:.4f}} at %{{x:.3f}}×<extra></extra>",
        )  # fmt: skip
    summaries = (f"{name} from {values[0]:.4f} to {values[-1]:.4f}" for name, (_, values) in lines.items())
    alt = f"{kind.on_test.capitalize()} over macs: {'; '.join(summaries)}."
    title = f"{kind.on_test.capitalize()} as the baseline grows, for each way to split the budget"
    with_legend(styled(figure, title, 520, alt)).update_layout(legend_traceorder="reversed")
    figure.update_xaxes(title_text="macs (× baseline)", type="log", tickformat="~g", nticks=8)
    figure.update_yaxes(title_text=f"{kind.on_test} ({kind.unit})")
    return figure


def _lines(tables: Mapping[float, pd.DataFrame]) -> dict[str, tuple[list[float], list[float]]]:
    """Split → macs and values, by φ: the rule's first, then as they stand at the largest φ.

    A network of several splits is on the line of each. The mark ≈ of a split whose network is far from it is left out:
    the split may have it at one φ only.
    """
    series: dict[str, tuple[list[float], list[float]]] = {}
    for _, table in sorted(tables.items(), reverse=True):
        for row in table.to_dict("records"):
            for name in row["rivals"].split(", "):
                macs, values = series.setdefault(name.removeprefix("≈ "), ([], []))
                macs.insert(0, row["macs_ratio"])
                values.insert(0, row["value"])
    return series
