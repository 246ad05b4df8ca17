"""The report: one self-contained HTML file with the answer, what it rests on, and the figures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from scalesearch.analysis.choice import Choice
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.schedule import warning
from scalesearch.analysis.validation import Validation
from scalesearch.report.figures import candidates as figures
from scalesearch.report.figures.cost import COSTS
from scalesearch.report.figures.style import DARK, short_name
from scalesearch.report.tables import (
    candidates_table,
    facts_table,
    family_table,
    fit_tables,
    schedule_table,
    validation_table,
)
from scalesearch.results.records import DONE, FAILED, PRUNED, TrialRecord
from scalesearch.runtime.text import plural
from scalesearch.scaling.family import ScalingRule, rounding_note
from scalesearch.study.sections import Study

# No address may be loaded, whatever a name in the page says.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

# Identifier of a section, its heading, what it holds.
Section = tuple[str, str, str]


def render(
    *,
    study: Study,
    states: Mapping[str, int],
    rule: ScalingRule | None,
    choice: Choice | None,
    trials: pd.DataFrame,
    candidates: pd.DataFrame,
    records: Sequence[TrialRecord],
    validations: Sequence[Validation],
    schedule: pd.DataFrame,
) -> str:
    """The report of `study` as a page, finished or not; every string that comes from outside is escaped.

    `states` counts trials waiting, running, complete and failed. `rule` and `choice` are None where no candidate
    finished. `trials` and `candidates` have the columns of `tables.TABLES`; `schedule` has
    `analysis.schedule.COLUMNS`, a row a shorter schedule.
    """
    facts = {
        **({"trials": dict(states)} if rule is None else {k: v for k, v in rule.provenance.items() if k != "chances"}),
        "data": study.data.model_dump(mode="json"),
        "training": study.training.model_dump(mode="json"),
        "rounding": dataclasses.asdict(study.resolved_baseline().rounding),
    }
    head = [f"<h1>{escape(study.name)}</h1>", _paragraph(_subtitle(study, candidates), "soft"), _progress(states)]
    sections: list[Section] = []
    if rule is None or choice is None:
        head += [_paragraph("No candidate has finished: there is nothing to choose from, and no figure.", "answer")]
        head += [_failures(candidates)]
    else:
        head += _answer(rule, choice, warning(schedule))
        head += [_figure(figures.triangle(candidates, choice, study.metric, study.budget), "triangle")]
        sections += _sections(rule, choice, trials, candidates, records, validations, schedule)
    sections += [("provenance", "Provenance", facts_table("What it was made with", facts))]
    return _page(study.name, head, sections)


def _page(name: str, head: Sequence[str], sections: Sequence[Section]) -> str:
    links = "".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title, _ in sections)
    contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n' if len(sections) > 1 else ""
    body = "\n".join(f'<h2 id="{key}">{escape(title)}</h2>\n{content}' for key, title, content in sections)
    own = files("scalesearch.report")
    style, script = (own.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    plotly = ("<script>", get_plotlyjs(), "</script>\n") if 'class="plot"' in "".join([*head, body]) else ()
    parts = (  # joined once: plotly's script takes nine megabytes
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{escape(name)}: scalesearch</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n",
        "\n".join(part for part in head if part),
        f"\n{contents}{body}\n</main>\n",
        f'<script type="application/json" id="dark">{json.dumps(dict(DARK))}</script>\n',
        *plotly,
        f"<script>\n{script}</script>\n</body>\n</html>\n",
    )
    return "".join(parts)


def _answer(rule: ScalingRule, choice: Choice, doubt: str) -> list[str]:
    notes: tuple[str, ...] = ()
    if choice.surface is not None:
        notes = (choice.surface.model_note, choice.surface.covariate_note)
    told = " ".join(f"{note[0].upper()}{note[1:]}." for note in notes if note)
    return [
        _paragraph(answer(rule, choice), "answer"),
        _paragraph(choice.signal.verdict, "verdict resolved" if rule.resolved else "verdict"),
        _paragraph(doubt, "verdict"),
        _paragraph(f"{choice.basis} {told}", "soft"),
        _paragraph(choice.certainty),
    ]


def answer(rule: ScalingRule, choice: Choice) -> str:
    """The result in one sentence."""
    depth, width, resolution = rule.shares.values
    doubt = "" if rule.resolved else " This is not resolved: other splits may be as good."
    return (
        f"Spend {depth:.0%} of the budget on depth, {width:.0%} on width and {resolution:.0%} on resolution"
        f" ({choice.where}): α = {rule.alpha:.4f}, β = {rule.beta:.4f}, γ = {rule.gamma:.4f}.{doubt}"
    )


def _sections(
    rule: ScalingRule,
    choice: Choice,
    trials: pd.DataFrame,
    candidates: pd.DataFrame,
    records: Sequence[TrialRecord],
    validations: Sequence[Validation],
    schedule: pd.DataFrame,
) -> Iterator[Section]:
    """What a rule rests on, and what it gives."""
    metric = rule.metric
    yield "family", "The family", _paragraph(rounding_note(rule), "soft") + family_table(rule)
    if len(validations) > 1:
        tables = {one.phi: one.table for one in validations}
        content = _figure(figures.validation_over_macs(tables, metric), "validation-over-macs")
        yield "growth", "Growing the baseline", content
    for one in validations:
        content = _figure(figures.validation(one.table, one.phi, metric), f"validation-{one.phi:g}")
        told = _paragraph(one.verdict) + _paragraph(one.reading, "soft")
        content = f"{told}{content}{validation_table(one.phi, one.table, metric)}"
        yield f"validation-at-{one.phi:g}", f"Validation at φ = {one.phi:g}, on the test split", content
    content = _figure(figures.leaderboard(candidates, trials, metric), "leaderboard")
    yield "candidates", "Candidates", content + candidates_table(candidates) + _failures(candidates)
    if choice.surface is not None:
        yield "fit", "How well the surface fits", fit_tables(choice.surface, choice.signal, candidates)
    if len(schedule):
        yield "schedule", "Shorter schedules", _paragraph(warning(schedule)) + schedule_table(schedule)
    content = _figure(figures.error_distribution(candidates), "errors")
    yield "training", "Training", _figure(figures.learning_curves(records, metric), "curves") + content
    over = "".join(_figure(figures.accuracy_over(candidates, column), f"over-{column}") for column in COSTS)
    content = _figure(figures.cost(candidates, rule.budget), "cost")
    yield "cost", "Cost", f'<div class="grid">{over}</div>{content}'


def _paragraph(text: str, kind: str = "plain") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if text.strip() else ""


def _subtitle(study: Study, candidates: pd.DataFrame) -> str:
    counts = {status: int(candidates["status"].eq(status).sum()) for status in (DONE, PRUNED, FAILED)}
    seeds = f"{'up to ' if study.race else ''}{study.seeds} {'seed' if study.seeds == 1 else 'seeds'} each"
    trained = plural(counts.pop(DONE), "candidate")
    told = f"{study.baseline.name}, budget {study.budget:g}×, {metric_of(study.metric).label}, {trained}, {seeds}"
    return ", ".join([told, *(f"{count} {status}" for status, count in counts.items() if count)])


def _progress(states: Mapping[str, int]) -> str:
    """How far a study is that has trials left; empty for one that is done."""
    if not states["waiting"] + states["running"]:
        return ""
    shown = ("complete", *["pruned"] * bool(states["pruned"]), "failed", "running", "waiting")
    told = ", ".join(f"{states[state]} {state}" for state in shown)
    return _paragraph(f"Not finished: of {sum(states.values())} trials {told}. What follows may change.", "verdict")


def _failures(candidates: pd.DataFrame) -> str:
    failed = candidates[candidates["status"].eq(FAILED)]
    lines = (f"<li>{escape(short_name(row))}: {escape(row['failure'])}</li>" for row in failed.to_dict("records"))
    return f"<p>Failed, and left out of the choice:</p><ul>{''.join(lines)}</ul>" if len(failed) else ""


def _figure(figure: go.Figure, name: str) -> str:
    """The figure as JSON that page.js draws; its title as a caption of the page, which wraps on a narrow screen.

    plotly escapes what could end the script element.
    """
    title, alt = figure.layout.title.text, figure.layout.meta["alt"]
    margin = figure.layout.margin.t - 40
    figure.update_layout(title_text=None, margin_t=margin, height=figure.layout.height - 40, template="none")
    return (
        f'<figure class="figure"><figcaption>{escape(title)}</figcaption>'
        f'<div class="plot" id="figure-{name}" role="img" aria-label="{escape(alt)}"></div>'
        f'<script type="application/json">{figure.to_json()}</script></figure>\n'
    )
