"""The tables of the report as HTML, each column sortable; every string that comes from outside is escaped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from scalesearch.analysis import schedule, validation
from scalesearch.analysis.metrics import chance_text
from scalesearch.analysis.signal import Signal
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.analysis.tables import finished_candidates, seeds_note
from scalesearch.report.figures.style import plus_minus, short_name
from scalesearch.results.records import DONE
from scalesearch.scaling.family import REPORTED_PHIS, ScalingRule, family

# Candidates of a level.
ROWS = 50
INFLUENTIAL = 3
LEADERBOARD = (
    "rank", "val. loss", "val. accuracy", "best?", "α", "β", "γ", "blocks", "widths", "pixels", "macs ×", "params",
    "seconds",
)  # fmt: skip


def family_table(rule: ScalingRule) -> str:
    """The members that a run reports."""
    header = (
        "φ", "depth ×", "width ×", "resolution ×", "blocks", "widths", "pixels", "macs", "macs ×", "params",
        "activations",
    )  # fmt: skip
    rows = [
        (
            f"{member.phi:g}",
            *(f"{value:.3f}" for value in dataclasses.astuple(member.coefficients)),
            " ".join(map(str, member.spec.depths)),
            " ".join(map(str, member.spec.widths)),
            str(member.spec.resolution),
            f"{member.complexity.macs:,}",
            f"{member.macs_ratio:.3f}",
            f"{member.complexity.params:,}",
            f"{member.complexity.activations:,}",
        )
        for member in family(rule, REPORTED_PHIS)
    ]
    return sortable("The baseline (φ = 0) and its family", header, rows)


def validation_table(phi: float, table: pd.DataFrame, metric: str) -> str:
    """The rule and its rivals at one φ; `table` has `validation.COLUMNS`."""
    return _of_rows(f"Splits at φ = {phi:g}: shares of the budget, and result", validation.readable(table, metric))


def candidates_table(candidates: pd.DataFrame) -> str:
    """The finished candidates, the best first; `candidates` has `tables.CANDIDATE_COLUMNS`."""
    rows, more = leaderboard(candidates, ROWS)
    told = (
        "best?: chance of being the best, in brackets where the seeds rule it out. seconds: training time of a seed. "
        f"{seeds_note(candidates)}"
    )
    return (
        sortable("Candidates: mean ± standard deviation of the seeds", LEADERBOARD, rows)
        + f'<p class="soft">{told}</p>'
        + (f'<p class="soft">{more} more in candidates.csv.</p>' if more else "")
    )


def leaderboard(candidates: pd.DataFrame, most: int) -> tuple[list[tuple[str, ...]], int]:
    """Rows under `LEADERBOARD` of the `most` best finished candidates of each level, and how many are left out."""
    done = candidates[candidates["status"].eq(DONE)]
    several = done["phi"].nunique() > 1
    shown = done.assign(rank=done.groupby("phi").cumcount() + 1).groupby("phi").head(most)
    rows = [
        (
            f"φ {row['phi']:g}: {row['rank']}" if several else str(row["rank"]),
            plus_minus(row["val_loss"], row["val_loss_sd"]),
            plus_minus(row["val_accuracy"], row["val_accuracy_sd"]),
            chance_text(row["chance"], row["tied"]),
            *(f"{row[key]:.3f}" for key in ("alpha", "beta", "gamma")),
            row["depths"],
            row["widths"],
            str(row["resolution"]),
            f"{row['macs_ratio']:.3f}",
            f"{row['params']:,}",
            f"{row['seconds']:,.1f}",
        )
        for row in shown.to_dict("records")
    ]
    return rows, len(done) - len(rows)


def fit_tables(surface: Surface, signal: Signal, candidates: pd.DataFrame) -> str:
    """How far the surface can be trusted: errors of leaving a candidate out, its terms, the most influential."""
    errors = [
        (model, f"{error:.4g}", "this one" if model == surface.model else "") for model, error in surface.validation
    ]
    told = (
        f"The errors below take one seed's result to deviate by {surface.residual_sd:.4g} (sd, "
        f"{surface.residual_df:,.0f} degrees of freedom); from its candidate's mean it deviates by "
        f"{_or_unknown(signal.seed_sd)}. Were the surface the whole truth, candidates would deviate from it so far "
        f"with p = {_or_unknown(signal.lack_of_fit_p, '.3f')}."
    )
    names = [short_name(row) for row in finished_candidates(candidates, surface.metric).to_dict("records")]
    influential = [
        (names[place], f"{surface.influence[place]:.2f}", f"{surface.left_out[place]:+.4f}")
        for place in np.argsort(surface.influence)[::-1][:INFLUENTIAL].tolist()
    ]
    header, rows = surface.parameters()
    taken = (
        "The quadratic model is taken unless another one that can be best inside the triangle predicts clearly "
        "better, by two standard errors; the linear one, always best in a corner, is there to compare with."
    )
    return (
        f"<p>{escape(told)} {taken}</p>"
        + sortable("Error of predicting a candidate that is left out", ("model", "root mean square", "taken"), errors)
        + sortable(f"{surface.model} surface", header, list(rows))
        + sortable(
            "The most influential candidates",
            ("candidate", "Cook's distance", "result − prediction by the others"),
            influential,
        )
    )


def schedule_table(table: pd.DataFrame) -> str:
    """Shorter schedules against the whole one; `table` has `analysis.schedule.COLUMNS`."""
    return _of_rows("Order of the candidates, and the choice, by shorter schedules", schedule.readable(table))


def _of_rows(caption: str, rows: Sequence[Mapping[str, str]]) -> str:
    """A table of rows by heading, at least one."""
    return sortable(caption, tuple(rows[0]), [tuple(row.values()) for row in rows])


def _or_unknown(value: float | None, form: str = ".4g") -> str:
    return "unknown" if value is None else format(value, form)


def facts_table(caption: str, values: Mapping[str, Any]) -> str:
    """Key → JSON value, a row each."""
    cells = "".join(
        f'<tr><th scope="row">{escape(key).replace("_", "_<wbr>")}</th><td>{escape(_readable(value))}</td></tr>'
        for key, value in values.items()
    )
    return _scrolling(caption, f"<tbody>{cells}</tbody>", "facts")


def _readable(value: Any) -> str:
    """A JSON value in a line: objects as key value pairs."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_readable(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def sortable(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose headings are buttons, by which page.js sorts; the first cell of a row is its heading."""
    head = "".join(f'<th scope="col"><button type="button">{escape(title)}</button></th>' for title in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return _scrolling(caption, f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", "sortable")


def _scrolling(caption: str, content: str, kind: str) -> str:
    """On a narrow screen the table scrolls, not the page."""
    table = f'<table class="{kind}"><caption><span>{escape(caption)}</span></caption>{content}</table>'
    return f'<div class="scroll">{table}</div>'
