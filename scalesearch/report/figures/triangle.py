"""The triangle of shares as a plotly figure: candidates, surface, the choice and its region, the paper's shares."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from scalesearch.analysis.choice import Choice
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.baselines import efficientnet as published
from scalesearch.report.figures.style import (
    GREY,
    HALO,
    INK,
    LABEL,
    PAPER,
    VERMILION,
    colour_scale,
    network_text,
    styled,
)
from scalesearch.results.records import DONE, FAILED, PRUNED
from scalesearch.runtime.text import plural
from scalesearch.scaling.coefficients import shares_of
from scalesearch.scaling.simplex import NAMES

FloatArray = NDArray[np.float64]

HEIGHT = math.sqrt(3) / 2
# Depth on top, width left, resolution right.
CORNERS = np.array([[0.5, HEIGHT], [0.0, 0.0], [1.0, 0.0]])
_LEFT, _RIGHT, _BOTTOM, _TOP = -0.12, 1.12, -0.11, 0.97
_STEPS = 160
# Pixels from a mark to its label. Labels point away from the other mark. Below this share of depth, a label under the
# mark would hide those of the corners.
_LIFT, _FLOOR = 30, 0.12


def triangle(candidates: pd.DataFrame, choice: Choice | None, metric: str, budget: float) -> go.Figure:
    """The shares of the lowest level's candidates, coloured by `metric`; contours, choice and its region, if any.

    The contours are those of that level. `candidates` has `tables.CANDIDATE_COLUMNS`. Raises `ValueError` for an
    unknown metric.
    """
    kind = metric_of(metric)
    candidates = candidates[candidates["phi"].eq(candidates["phi"].min())]
    done = candidates[candidates["status"].eq(DONE)]
    failed, pruned = (candidates[candidates["status"].eq(status)] for status in (FAILED, PRUNED))
    scale = colour_scale(kind.maximise)
    low, high = _range(done[metric].to_numpy(float))
    colours = {"colorscale": scale, "cmin": low, "cmax": high}
    figure = go.Figure()
    if choice is not None and choice.surface is not None:
        _add_surface(figure, choice.surface, scale, low, high)
    _add_frame(figure)
    if choice is not None and choice.region is not None:
        x, y = points(choice.region.points).T
        name = f"{choice.region.level:.0%} region"
        dots = {"size": 3.5, "color": VERMILION, "opacity": 0.6}
        figure.add_scatter(x=x, y=y, mode="markers", marker=dots, hoverinfo="skip", name=name)
    for name, symbol, some in (("failed", "x-thin", failed), ("pruned", "line-ew", pruned)):
        if len(some):
            x, y = points(_shares(some)).T
            marker = {"symbol": symbol, "size": 9, "line": {"color": INK, "width": 2}}
            figure.add_scatter(
                x=x, y=y, mode="markers", marker=marker, text=network_text(some), hoverinfo="text", name=name
            )
    x, y = points(_shares(done)).T
    bar = {
        "title": {"text": f"{kind.label} ({kind.unit})", "side": "top"},
        "orientation": "h",
        "thickness": 12,
        "len": 0.7,
        "y": -0.02,
        "yanchor": "top",
    }
    marker = {
        "size": 13,
        "color": done[metric],
        "line": {"color": HALO, "width": 2},
        "showscale": len(done) > 0,
        "colorbar": bar,
        **colours,
    }
    figure.add_scatter(
        x=x, y=y, mode="markers", marker=marker, text=network_text(done), hoverinfo="text", name="candidates"
    )
    papers = shares_of(published.PAPER)
    lower = choice is not None and choice.shares.depth < papers.depth
    _add_mark(figure, papers.values, "EfficientNet's own", "diamond-open", INK, 12, -_LIFT if lower else _LIFT)
    if choice is not None:
        below = lower and choice.shares.depth > _FLOOR
        _add_mark(figure, choice.shares.values, "best split", "star", VERMILION, 19, _LIFT if below else -_LIFT)
    region = (
        "" if choice is None or choice.region is None else f"; dots: where the best may be ({choice.region.level:.0%})"
    )
    title = f"{kind.label.capitalize()} over the split of a budget of {budget:g}×{region}"
    title += ("; ×: failed" if len(failed) else "") + ("; –: pruned" if len(pruned) else "")
    styled(figure, title, 660, _alt_text(done, failed, pruned, choice, metric))
    figure.update_layout(margin_l=10, margin_r=10, margin_b=70)
    figure.update_xaxes(visible=False, range=[_LEFT, _RIGHT], fixedrange=True)
    figure.update_yaxes(visible=False, range=[_BOTTOM, _TOP], scaleanchor="x", constrain="domain", fixedrange=True)
    return figure


def _alt_text(
    done: pd.DataFrame, failed: pd.DataFrame, pruned: pd.DataFrame, choice: Choice | None, metric: str
) -> str:
    """The figure in words."""
    text = (
        f"A triangle whose corners are all depth, all width and all resolution, with {plural(len(done), 'candidate')}"
    )
    if len(done):
        text += f", {metric_of(metric).label} {done[metric].min():.4f} to {done[metric].max():.4f}"
    text += f", {len(pruned)} that were pruned" if len(pruned) else ""
    text += f", and {len(failed)} that failed." if len(failed) else "."
    if choice is not None:
        text += f" The best split: {_percents(choice.shares.values)}, {choice.where}."
        if choice.region is not None:
            text += f" The {choice.region.level:.0%} region is {choice.region.part_text} of the triangle"
            places = [_percents(tuple(place)) for place in choice.region.places.tolist()]
            text += f", in {len(places)} places, best at {'; '.join(places)}." if len(places) > 1 else "."
    return f"{text} EfficientNet's own split: {_percents(shares_of(published.PAPER).values)}."


def _percents(shares: tuple[float, float, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in zip(NAMES, shares, strict=True))


def points(shares: FloatArray) -> FloatArray:
    """Positions (N, 2) in the drawing of `shares` (N, 3)."""
    return np.asarray(shares @ CORNERS)


def _shares(candidates: pd.DataFrame) -> FloatArray:
    return candidates[["depth_share", "width_share", "resolution_share"]].to_numpy(float)


def _range(values: FloatArray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _add_surface(figure: go.Figure, surface: Surface, scale: str, low: float, high: float) -> None:
    """Filled contours over the whole rectangle, then everything but the triangle painted over: its edges stay sharp."""
    x, y = np.linspace(0, 1, _STEPS), np.linspace(0, HEIGHT, _STEPS)
    depth = np.broadcast_to((y / HEIGHT)[:, None], (_STEPS, _STEPS))
    resolution = x[None, :] - depth / 2
    shares = np.stack([depth, 1 - depth - resolution, resolution], axis=-1)
    values = surface.predict(shares.reshape(-1, 3)).reshape(_STEPS, _STEPS)
    figure.add_contour(
        x=x,
        y=y,
        z=values.astype(np.float32),  # enough to draw, and half the bytes
        zmin=low,
        zmax=high,
        colorscale=scale,
        showscale=False,
        opacity=0.55,
        hoverinfo="skip",
        contours={"start": low, "end": high, "size": (high - low) / 10, "showlabels": False},
        line={"width": 0.7, "color": PAPER},
        name="surface",
    )
    left, right, bottom, top = _LEFT - 1, _RIGHT + 1, _BOTTOM - 1, _TOP + 1
    hole = np.vstack([CORNERS, CORNERS[:1]])[::-1].tolist()  # the other way round than the outside: not filled
    outside = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    outline = [*outside, *hole, outside[0]]
    figure.add_scatter(
        x=[p[0] for p in outline],
        y=[p[1] for p in outline],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=PAPER,
        hoverinfo="skip",
        name="outside",
    )


def _add_frame(figure: go.Figure) -> None:
    x, y = np.vstack([CORNERS, CORNERS[:1]]).T
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": GREY, "width": 1.5}, hoverinfo="skip", name="frame")
    names = ("all depth (α)", "all width (β)", "all resolution (γ)")
    for (cx, cy), name, side, anchor in zip(
        CORNERS.tolist(), names, (1, -1, -1), ("center", "left", "right"), strict=True
    ):
        figure.add_annotation(
            x=cx, y=cy + 0.055 * side, text=f"<b>{name}</b>", showarrow=False, font={"size": 14}, xanchor=anchor
        )


def _add_mark(
    figure: go.Figure, shares: tuple[float, float, float], name: str, symbol: str, colour: str, size: int, lift: int
) -> None:
    x, y = points(np.array([shares]))[0].tolist()
    text = f"<b>{name}</b><br>{_percents(shares)}"
    width = 2 if symbol.endswith("open") else 1.5
    edge = colour if symbol.endswith("open") else HALO
    marker = {"symbol": symbol, "size": size, "color": colour, "line": {"color": edge, "width": width}}
    figure.add_scatter(x=[x], y=[y], mode="markers", marker=marker, text=[text], hoverinfo="text", name=name)
    figure.add_annotation(
        x=x, y=y, text=name, showarrow=True, arrowhead=0, arrowcolor=GREY, ax=0, ay=lift, font={"color": colour},
        bgcolor=LABEL, borderpad=2,
    )  # fmt: skip
