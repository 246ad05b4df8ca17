"""Figures of a trained model: its curves, and what it takes the images of each class for."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scalesearch.report.figures.style import BLUE, CELL, GREEN, GRID, INK, PAPER, VERMILION, styled, with_legend
from scalesearch.trained.evaluation import Evaluation

MOST_CLASSES = 60
"""A matrix of more cannot be read."""
_NUMBERED = 12
"""Classes up to which each cell has its number."""
_LONGEST = 18
"""Characters of a class at an axis."""

LOSSES: Mapping[str, str] = {"train_loss": "training", "val_loss": "validation"}
ACCURACIES: Mapping[str, str] = {"val_accuracy": "accuracy", "val_balanced_accuracy": "balanced"}
_COLOURS = {
    "train_loss": GREEN, "val_loss": BLUE, "val_accuracy": BLUE, "val_balanced_accuracy": VERMILION,
}  # fmt: skip


def curves(table: pd.DataFrame, columns: Mapping[str, str], title: str, unit: str) -> go.Figure:
    """Columns of curves.csv over the epoch; the epoch of the best validation accuracy, whose weights count, is marked.

    Args:
        table: a row for each epoch.
        columns: those to draw, each with its name in the legend; those that `table` lacks are left out.
        title: of the figure.
        unit: of the values.
    """
    figure, summaries = go.Figure(), []
    for column, name in columns.items():
        if column not in table or table[column].isna().all():
            continue
        values = table[column]
        summaries.append(f"{name} from {values.iloc[0]:.4f} to {values.iloc[-1]:.4f}")
        figure.add_scatter(
            x=table["epoch"], y=values, mode="lines+markers" if len(table) <= 40 else "lines", name=name,
            line={"color": _COLOURS[column], "width": 2.5}, hovertemplate="epoch %{x}: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=best_epoch(table), line={"color": INK, "width": 1, "dash": "dash"})
    alt = f"{title} over {len(table)} epochs: {'; '.join(summaries)}."
    with_legend(styled(figure, title, 380, alt))
    figure.update_xaxes(title_text="epoch", dtick=1 if len(table) <= 12 else None)
    figure.update_yaxes(title_text=unit)
    return figure


def best_epoch(table: pd.DataFrame) -> int:
    """The epoch of the highest accuracy, balanced where classes are uneven; of equal ones, that of the lowest loss."""
    balanced = "val_balanced_accuracy"
    judged = balanced if balanced in table and table[balanced].notna().all() else "val_accuracy"
    ranked = table.sort_values([judged, "val_loss", "epoch"], ascending=[False, True, True])
    return int(ranked["epoch"].iloc[0])


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
