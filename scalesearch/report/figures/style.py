"""What all figures share: colours that colour-blind readers can distinguish, layout, order, texts for networks."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scalesearch.analysis.metrics import metric_of
from scalesearch.report.views.results import short_name
from scalesearch.results.records import DONE, FAILED
from scalesearch.runtime.text import plural

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), darkened until text in it is readable on white:
# blue and vermilion differ in every colour vision.
BLUE, VERMILION, GREEN, PURPLE, OCHRE = "#0072B2", "#C25400", "#007A5A", "#A0478C", "#8A6100"
GREY, SOFT = "#8A8F98", "#5B6472"
INK, PAPER, GRID, LABEL = "#1F2430", "#FFFFFF", "#E4E7EC", "rgba(255,255,255,0.85)"
# The fullest cell of a matrix, on which text in INK is readable.
CELL = "#8CC4E8"
# What replaces each colour on a dark screen; a colour without an entry stays the same.
DARK: Mapping[str, str] = {
    INK: "#E8EAEE", PAPER: "#1D2128", GRID: "#343A45", LABEL: "rgba(29,33,40,0.85)", SOFT: "#A3ABB8", BLUE: "#56B4E9",
    VERMILION: "#FF9A57", GREEN: "#3CC9A0", PURPLE: "#E39BD0", OCHRE: "#E0B04A", CELL: "#1C5F8F",
}  # fmt: skip
# White on dark screens too: the marks that it surrounds may be darker than the screen.
HALO = "white"
# Levels of the budget, lowest first.
LEVELS = (VERMILION, BLUE, GREEN, PURPLE, OCHRE)
# Characters of a line of a title, and its height in pixels. A picture is 700 pixels wide.
_TITLE, LINE = 64, 22
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


def colour_scale(maximise: bool) -> str:
    """Cividis, which grows evenly in lightness in every colour vision; the best value is the darkest."""
    return "Cividis_r" if maximise else "Cividis"


def styled(figure: go.Figure, title: str, height: int, alt: str) -> go.Figure:
    """`figure` with the common fonts, colours and margins, and a left-aligned title in lines that fit a notebook.

    `layout.meta` holds `alt`, which describes the figure for those who do not see it, and the title in one line.
    """
    lines = textwrap.wrap(title, _TITLE)
    below = LINE * (len(lines) - 1)
    figure.update_layout(
        title={
            "text": "<br>".join(lines),
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "pad": {"l": 12},
            "font": {"size": 17},
        },
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        height=height + below,
        margin={"l": 70, "r": 30, "t": 60 + below, "b": 60},
        hoverlabel={"bgcolor": PAPER, "font": {"family": FONT, "color": INK}, "align": "left"},
        hovermode="closest",
        showlegend=False,
        meta={"alt": alt, "title": title},
    )
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GREY, "ticks": "outside", "tickcolor": GREY}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def with_legend(figure: go.Figure) -> go.Figure:
    """`figure` with a legend above the plot, where it hides nothing."""
    legend = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}
    return figure.update_layout(showlegend=True, legend=legend, margin_t=figure.layout.margin.t + 30)


def ranked(candidates: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The finished candidates, those of a level together, the best by `metric` first.

    `candidates` has `tables.CANDIDATE_COLUMNS`. Raises `ValueError` for an unknown metric.
    """
    upwards = not metric_of(metric).maximise
    done: pd.DataFrame = candidates[candidates["status"].eq(DONE)]
    return done.sort_values(["phi", metric], ascending=[True, upwards], kind="stable")


def leaders(done: pd.DataFrame) -> pd.Series:
    """Which rows of a `ranked` table are the first of their level."""
    return ~done["phi"].duplicated()


def standard_error(done: pd.DataFrame, metric: str) -> pd.Series:
    """The standard error of the mean over the seeds; 0 if it is unknown because there is only one seed."""
    error: pd.Series = (done[f"{metric}_sd"] / np.sqrt(done["seeds"].clip(lower=1))).fillna(0.0)
    return error


def network_text(candidates: pd.DataFrame) -> list[str]:
    """For each candidate what a reader wants to see on hovering; its text is escaped."""
    return [_text(row) for row in candidates.to_dict("records")]


def _text(row: Mapping[Any, Any]) -> str:
    lines = [
        f"<b>{short_name(row)}</b>",
        f"depth {row['depth_share']:.0%}, width {row['width_share']:.0%}, resolution {row['resolution_share']:.0%}",
        f"blocks {row['depths']}",
        f"widths {row['widths']}",
        f"resolution {row['resolution']} px",
        f"macs {row['macs']:,} ({row['macs_ratio']:.3f}×), {row['params']:,} parameters",
    ]
    if row["seeds"]:
        lines.append(f"val_loss {plus_minus(row['val_loss'], row['val_loss_sd'])}")
        lines.append(
            f"val_accuracy {plus_minus(row['val_accuracy'], row['val_accuracy_sd'])} ({plural(row['seeds'], 'seed')})"
        )
    if row["failure"]:
        failed = "failed, " if row["status"] == FAILED else ""
        lines.append(failed + html.escape(_short(row["failure"])))
    return "<br>".join(lines)


def plus_minus(mean: float, sd: float) -> str:
    """Mean ± standard deviation; a NaN deviation (one seed) is left out. It does not break across lines."""
    return f"{mean:.4f}" if np.isnan(sd) else f"{mean:.4f}\u00a0±\u00a0{sd:.4f}"


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


def gapped(lines: Iterable[tuple[list[float], list[float]]]) -> tuple[list[float | None], list[float | None]]:
    """Many lines as the points of a single trace, a gap after each."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for x, y in lines:
        xs += [*x, None]
        ys += [*y, None]
    return xs, ys
