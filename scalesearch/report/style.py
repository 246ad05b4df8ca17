"""What all figures share: colours that the colour-blind tell apart, the layout, and the words for a network."""

from __future__ import annotations

import html
from collections.abc import Iterable

import numpy as np
import pandas as pd
import plotly.graph_objects as go

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): blue and vermilion differ in every colour vision.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#8A8F98"
INK, PAPER, GRID = "#1F2430", "#FFFFFF", "#E4E7EC"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


def colour_scale(maximise: bool) -> str:
    """Cividis, which grows evenly in lightness in every colour vision; the best value is the darkest."""
    return "Cividis_r" if maximise else "Cividis"


def styled(figure: go.Figure, title: str, height: int) -> go.Figure:
    """`figure` with the house's fonts, colours, margins and a left-aligned title."""
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12}, "font": {"size": 17}},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        height=height,
        margin={"l": 70, "r": 30, "t": 60, "b": 60},
        hoverlabel={"bgcolor": PAPER, "font": {"family": FONT, "color": INK}, "align": "left"},
        hovermode="closest",
        showlegend=False,
    )
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GREY, "ticks": "outside", "tickcolor": GREY}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def short_name(row: pd.Series) -> str:
    """A candidate's realised multipliers."""
    return f"α {row['alpha']:.2f}  β {row['beta']:.2f}  γ {row['gamma']:.2f}"


def network_text(candidates: pd.DataFrame) -> list[str]:
    """For each candidate what a reader wants to see on hovering; its text is escaped."""
    return [_text(row) for _, row in candidates.iterrows()]


def _text(row: pd.Series) -> str:
    lines = [
        f"<b>{short_name(row)}</b>",
        f"depth {row['depth_share']:.0%}, width {row['width_share']:.0%}, resolution {row['resolution_share']:.0%}",
        f"blocks {row['depths']}",
        f"widths {row['widths']}",
        f"resolution {row['resolution']} px",
        f"macs {row['macs']:,} ({row['macs_ratio']:.3f}×), {row['params']:,} parameters",
    ]
    if row["seeds"]:
        lines.append(f"loss {plus_minus(row['val_loss'], row['val_loss_sd'])}")
        lines.append(f"accuracy {plus_minus(row['val_accuracy'], row['val_accuracy_sd'])} ({row['seeds']} seeds)")
    if row["failure"]:
        lines.append(f"failed, {html.escape(_short(row['failure']))}")
    return "<br>".join(lines)


def plus_minus(mean: float, sd: float) -> str:
    """Mean ± standard deviation; a NaN deviation (one seed) is left out."""
    return f"{mean:.4f}" if np.isnan(sd) else f"{mean:.4f} ± {sd:.4f}"


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
