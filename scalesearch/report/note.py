"""What Optuna's dashboard shows of a result: a note in markdown, and figures light enough to be kept in a study."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from scalesearch.analysis.outcome import Outcome
from scalesearch.analysis.validation import Validation
from scalesearch.report.html import FAMILY, LEADERBOARD, answers
from scalesearch.report.views import networks, results
from scalesearch.report.views.table import Table
from scalesearch.scaling.family import cost_note

# Candidates per level.
ROWS = 10
# Points per side of a surface: a study stores a figure in pieces of two thousand characters, each a separate write.
_STEPS = 54
# Of a card of the dashboard: its height in pixels, and how many characters its width holds.
_HEIGHT, _TITLE = 480, 45


def note(outcome: Outcome, validations: Sequence[Validation] = ()) -> str:
    """The answer, how sure it is, the best candidates and the family, as markdown; `outcome` must have a result."""
    leaderboard = results.leaderboard(outcome.candidates, ROWS, outcome.baseline).select(*LEADERBOARD)
    shown = (
        f"## {leaderboard.caption}",
        _markdown(leaderboard),
        " ".join((leaderboard.meanings, *leaderboard.notes)),
    )
    if not outcome.has_rule:
        return "\n\n".join((f"# {outcome.study.name}", f"**{outcome.standing.answer}**", *shown))
    choice, members = outcome.choice, outcome.family()
    parts = (
        f"# {outcome.study.name}",
        *(f"**{sentence}**" for sentence in answers(outcome)),
        choice.signal.verdict,
        f"{choice.basis} {choice.certainty}",
        outcome.schedule_warning,
        *(f"Validation at φ = {one.phi:g}: {one.verdict}" for one in validations),
        *shown,
        "## Family",
        _markdown(networks.family(members).select(*FAMILY)),
        cost_note(members, outcome.study.tolerance),
    )
    return "\n\n".join(part for part in parts if part)


def _markdown(table: Table) -> str:
    lines = (table.headings, ["---"] * len(table.headings), *table.rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def card(figure: go.Figure) -> go.Figure:
    """`figure` at the size of a card of the dashboard, its title wrapped, every surface on fewer points."""
    for trace in figure.select_traces(selector={"type": "contour"}):
        rows, columns = (np.linspace(0, n - 1, min(n, _STEPS)).round().astype(int) for n in np.shape(trace.z))
        trace.update(x=np.asarray(trace.x)[columns], y=np.asarray(trace.y)[rows], z=trace.z[np.ix_(rows, columns)])
    title = textwrap.wrap(figure.layout.meta["title"], _TITLE)
    return figure.update_layout(
        title={"text": "<br>".join(title), "font_size": 14}, margin_t=34 + 17 * len(title), height=_HEIGHT
    )
