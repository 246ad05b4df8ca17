"""How a notebook displays a value: the rows of its view as a small HTML table."""

from __future__ import annotations

from functools import singledispatch

from scalesearch.analysis.choice import Choice
from scalesearch.analysis.outcome import Outcome
from scalesearch.analysis.signal import Signal
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.analysis.validation import Validation
from scalesearch.report.page import template
from scalesearch.report.views import networks, results
from scalesearch.report.views.table import SHARE_KEYS, TRAINING_KEYS, Table
from scalesearch.scaling.explain import Explanation
from scalesearch.scaling.family import Family
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.rule import ScalingRule

_FAMILY = (
    "phi", "depth_times", "width_times", "resolution_times", *SHARE_KEYS, "nominal", "real_cost", "macs", "params",
    *TRAINING_KEYS, "blocks", "widths", "pixels",
)  # fmt: skip


@singledispatch
def html_of(value: object) -> str:
    """`value` as HTML; every string is escaped. Raises `TypeError` for a value that has no view."""
    raise TypeError(f"a {type(value).__name__} has no view")


def table_html(table: Table) -> str:
    """A table with its caption above and its notes below."""
    return template("notebook.html").render(table=table)


@html_of.register
def _(value: ScalingRule) -> str:
    return table_html(results.rule(value))


@html_of.register
def _(value: Family) -> str:
    return table_html(networks.family(value).select(*_FAMILY))


@html_of.register
def _(value: Candidate) -> str:
    return table_html(networks.candidate(value))


@html_of.register
def _(value: Explanation) -> str:
    return table_html(networks.explanation(value))


@html_of.register
def _(value: Choice) -> str:
    return table_html(results.choice(value))


@html_of.register
def _(value: Signal) -> str:
    return table_html(results.signal(value))


@html_of.register
def _(value: Surface) -> str:
    return table_html(results.surface(value))


@html_of.register
def _(value: Validation) -> str:
    return table_html(results.validation(value))


@html_of.register
def _(value: Outcome) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in value.states.items() if count)
    notes: tuple[str, ...] = ("No candidate has finished.",)
    if value.has_result:
        notes = (value.choice.signal.verdict, value.choice.certainty) if value.has_rule else ()
        notes = tuple(note for note in (value.standing.answer, *notes) if note)
    summary = table_html(Table(f"{value.study.name}: {counts or 'no trials'}", (), (), notes=notes))
    return summary + html_of(value.rule) if value.has_rule else summary
