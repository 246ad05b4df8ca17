"""What Optuna's dashboard shows of a result: a note in markdown, and figures light enough to be kept in a study."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scalesearch.analysis.choice import Choice
from scalesearch.report.html import answer
from scalesearch.report.tables import LEADERBOARD, leaderboard
from scalesearch.scaling.family import REPORTED_PHIS, Family, ScalingRule, family, rounding_note

ROWS = 10
# Points a side of a surface: a study keeps a figure in pieces of two thousand characters, each a write.
_STEPS = 54
# Of a card of the dashboard: its height in pixels, and how many characters its width holds.
_HEIGHT, _TITLE = 480, 45


def note(
    *,
    name: str,
    rule: ScalingRule,
    choice: Choice,
    candidates: pd.DataFrame,
    verdicts: Mapping[float, str],
    warning: str,
) -> str:
    """The answer, how sure it is, the best candidates and the family.

    `verdicts` are those of validations, by φ; `warning` is what the rungs say against the rule, if anything.
    `candidates` has `tables.CANDIDATE_COLUMNS`.
    """
    best, left = leaderboard(candidates, ROWS)
    parts = [
        f"# {name}",
        f"**{answer(rule, choice)}**",
        choice.signal.verdict,
        f"{choice.basis} {choice.certainty}",
        *([warning] if warning else []),
        *(f"Validation at φ = {phi:g}: {verdict}" for phi, verdict in verdicts.items()),
        "## Candidates, best first",
        _table(LEADERBOARD, best),
        *([f"{left} more in candidates.csv."] if left else []),
        "## Family",
        _table(Family.HEADER, family(rule, REPORTED_PHIS).rows),
        rounding_note(rule),
    ]
    return "\n\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def card(figure: go.Figure) -> go.Figure:
    """`figure` at the size of a card of the dashboard, its title wrapped, every surface on fewer points."""
    for trace in figure.select_traces(selector={"type": "contour"}):
        rows, columns = (np.linspace(0, n - 1, min(n, _STEPS)).round().astype(int) for n in np.shape(trace.z))
        trace.update(x=np.asarray(trace.x)[columns], y=np.asarray(trace.y)[rows], z=trace.z[np.ix_(rows, columns)])
    title = textwrap.wrap(figure.layout.title.text or "", _TITLE)
    return figure.update_layout(
        title={"text": "<br>".join(title), "font_size": 14}, margin_t=34 + 17 * len(title), height=_HEIGHT
    )
