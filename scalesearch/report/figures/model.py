"""Figures of a trained model: its curves, and what it takes the images of each class for."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from scalesearch.report.figures.style import BLUE, CELL, GREEN, GRID, INK, PAPER, VERMILION, styled, with_legend
from scalesearch.trained.curves import EpochRow, best_of
from scalesearch.trained.evaluation import Evaluation

MOST_CLASSES = 60
"""A matrix of more cannot be read."""
_NUMBERED = 12
"""Classes up to which each cell has its number."""
_LONGEST = 18
"""Characters of a class at an axis."""

LOSSES: Mapping[str, str] = {"train_loss": "training", "val_loss": "validation"}
ACCURACIES: Mapping[str, str] = {"val_accuracy": "accuracy", "val_balanced_accuracy": "balanced"}
_COLOURS = {"train_loss": GREEN, "val_loss": BLUE, "val_accuracy": BLUE, "val_balanced_accuracy": VERMILION}


def curves(rows: Sequence[EpochRow], columns: Mapping[str, str], title: str, unit: str) -> go.Figure:
    """Fields of `rows`, one an epoch, over the epoch; the best epoch, whose weights the model has, is marked.

    Args:
        rows: at least one.
        columns: the fields to draw, each with its name in the legend; those that are None are left out.
        title: of the figure.
        unit: of the values.
    """
    figure, summaries, epochs = go.Figure(), [], [row.epoch for row in rows]
    for column, name in columns.items():
        values = [getattr(row, column) for row in rows]
        if None in values:
            continue
        summaries.append(f"{name} from {values[0]:.4f} to {values[-1]:.4f}")
        figure.add_scatter(
            x=epochs, y=values, mode="lines+markers" if len(rows) <= 40 else "lines", name=name,
            line={"color": _COLOURS[column], "width": 2.5}, hovertemplate="epoch %{x}: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    best = best_of(rows)
    if best is not None:
        figure.add_vline(x=best.epoch, line={"color": INK, "width": 1, "dash": "dash"})
    alt = f"{title} over {len(rows)} epochs: {'; '.join(summaries)}."
    with_legend(styled(figure, title, 380, alt))
    figure.update_xaxes(title_text="epoch", dtick=1 if len(rows) <= 12 else None)
    figure.update_yaxes(title_text=unit)
    return figure


def confusion(evaluation: Evaluation) -> go.Figure:
    """Of the images of each class (a row), the shares that are taken for each class (a column)."""
    counts, classes = evaluation.confusion, _labels(evaluation.classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    numbered = len(classes) <= _NUMBERED
    figure = go.Figure(
        go.Heatmap(
            z=shares, x=classes, y=classes, customdata=counts, zmin=0, zmax=1, showscale=False,
            colorscale=[[0, PAPER], [1, CELL]],
            hovertemplate="%{y} taken for %{x}: %{customdata} images, %{z:.1%}<extra></extra>", xgap=1, ygap=1,
            text=[[f"{count:,}" if count else "" for count in row] for row in counts.tolist()] if numbered else None,
            texttemplate="%{text}" if numbered else None, textfont={"color": INK},
        )
    )  # fmt: skip
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    label, other = np.unravel_index(wrong.argmax(), wrong.shape)
    most = f" Most often {evaluation.classes[label]} is taken for {evaluation.classes[other]}." if wrong.any() else ""
    alt = f"A matrix of the images of {len(classes)} classes by what they are taken for.{most}"
    styled(figure, "Confusion: images of each class (row) by what they are taken for (column)", 640, alt)
    axis = {
        "type": "category",
        "showgrid": False,
        "mirror": True,
        "showline": True,
        "linecolor": GRID,
        "automargin": True,
        "categoryarray": classes,
    }
    figure.update_xaxes(title_text="taken for", **axis)
    figure.update_yaxes(title_text="class", autorange="reversed", **axis)
    return figure


def _labels(names: Sequence[str]) -> list[str]:
    """Names for an axis: short, without markup, and all different."""
    short = [html.escape(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…") for name in names]
    return short if len({*short}) == len(short) else [f"{place} {name}" for place, name in enumerate(short)]
