"""The report: one self-contained HTML file with the answer, what it rests on, and the figures."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from scalesearch.analysis.metrics import chance_text, metric_of
from scalesearch.analysis.selection import Choice
from scalesearch.records import DONE, FAILED, TrialRecord
from scalesearch.report.figures import cost, leaderboard, learning_curves, triangle, validation
from scalesearch.report.style import plus_minus, short_name
from scalesearch.scaling.family import REPORTED_PHIS, ScalingRule, family, rounding_note

ROWS = 50

# No address may be loaded, whatever a name in the page says.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2430; --soft: #5b6472; --page: #f5f6f8; --card: #ffffff; --line: #e4e7ec;
  --good: #00664a; --open: #9a4300; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --soft: #a3abb8; --page: #14171c; --card: #1d2128;
  --line: #343a45; --good: #5ed1a9; --open: #ffb066; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.6rem; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 36px 0 10px; }
p { margin: 6px 0; }
.soft { color: var(--soft); }
.answer { font-size: 1.2rem; margin: 16px 0 8px; }
.verdict { border-left: 4px solid var(--open); padding: 2px 12px; }
.verdict.resolved { border-color: var(--good); }
.figure { background: #ffffff; border: 1px solid var(--line); border-radius: 8px; padding: 8px; margin: 12px 0; }
.figure { overflow: hidden; }
figcaption { padding: 4px 6px; font-weight: 600; color: #1f2430; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 9px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
tr:last-child td { border-bottom: 0; }
.key { text-align: left; color: var(--soft); vertical-align: top; }
.text { width: 100%; text-align: left; white-space: normal; overflow-wrap: anywhere; }
"""


def render(
    *,
    name: str,
    rule: ScalingRule,
    choice: Choice,
    candidates: pd.DataFrame,
    records: Sequence[TrialRecord],
    validations: Mapping[float, tuple[pd.DataFrame, str]],
) -> str:
    """The report of the study `name` as a page; every string that comes from outside is escaped.

    `candidates` has `tables.CANDIDATE_COLUMNS`; `validations` holds φ → table (`validation.COLUMNS`) and verdict.
    """
    metric = rule.metric
    resolved = " resolved" if rule.resolved else ""
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="soft">{escape(_subtitle(rule, candidates))}</p>',
        f'<p class="answer">{escape(answer(rule, choice))}</p>',
        f'<p class="verdict{resolved}">{escape(choice.signal.verdict)}</p>',
        f'<p class="soft">{escape(choice.basis)} {escape(_notes(choice))}</p>',
        f"<p>{escape(choice.certainty)}</p>",
        _figure(triangle(candidates, choice, metric, rule.budget), "triangle"),
        "<h2>The family</h2>",
        f'<p class="soft">{escape(rounding_note(rule))}</p>',
        _family_table(rule),
        *(_validation(phi, table, verdict, metric) for phi, (table, verdict) in validations.items()),
        "<h2>Candidates</h2>",
        _figure(leaderboard(candidates, metric), "leaderboard"),
        _candidates_table(candidates),
        _failures(candidates),
        "<h2>Training</h2>",
        _figure(learning_curves(records, metric), "curves"),
        "<h2>Cost</h2>",
        _figure(cost(candidates, rule.budget), "cost"),
        "<h2>Provenance</h2>",
        _provenance_table(rule),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}: scalesearch</title>\n<style>{_STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def answer(rule: ScalingRule, choice: Choice) -> str:
    """The result in one sentence."""
    depth, width, resolution = rule.shares.values
    doubt = "" if rule.resolved else " This is not resolved: other splits may be as good."
    return (
        f"Spend {depth:.0%} of the budget on depth, {width:.0%} on width and {resolution:.0%} on resolution"
        f" ({choice.where}): α = {rule.alpha:.4f}, β = {rule.beta:.4f}, γ = {rule.gamma:.4f}.{doubt}"
    )


def _subtitle(rule: ScalingRule, candidates: pd.DataFrame) -> str:
    failed = int(candidates["status"].eq(FAILED).sum())
    trained = f"{len(candidates) - failed} candidates"
    return (
        f"{rule.baseline.name}, budget {rule.budget:g}×, {metric_of(rule.metric).label}, {trained}, "
        f"{rule.seeds} {'seed' if rule.seeds == 1 else 'seeds'} each" + (f", {failed} failed" if failed else "")
    )


def _notes(choice: Choice) -> str:
    if choice.surface is None:
        return ""
    notes = (choice.surface.model_note, choice.surface.covariate_note)
    return " ".join(f"{note[0].upper()}{note[1:]}." for note in notes if note)


def _figure(figure: go.Figure, name: str) -> str:
    """The figure, its title as a caption of the page, which wraps on a narrow screen."""
    config = {"displaylogo": False, "responsive": True, "displayModeBar": False}
    title = figure.layout.title.text or ""
    figure.update_layout(title_text=None, margin_t=20, height=figure.layout.height - 40)
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=config, div_id=f"figure-{name}")
    return f'<figure class="figure"><figcaption>{escape(title)}</figcaption>{drawn}</figure>'


def _family_table(rule: ScalingRule) -> str:
    header = ("φ", "depth ×", "width ×", "resolution ×", "blocks", "widths", "pixels", "macs", "macs ×", "parameters")
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
        )
        for member in family(rule, REPORTED_PHIS)
    ]
    return _table(header, rows)


def _validation(phi: float, table: pd.DataFrame, verdict: str, metric: str) -> str:
    header = (
        "split",
        "depth",
        "width",
        "resolution",
        "macs ×",
        metric_of(metric).on_test,
        "rule better by",
        "95 %",
        "rule is",
    )
    rows = [
        (
            row["rivals"],
            *(f"{row[f'{name}_share']:.2f}" for name in ("depth", "width", "resolution")),
            f"{row['macs_ratio']:.3f}",
            f"{row['value']:.4f}",
            f"{row['better_by']:+.4f}" if row["verdict"] else "",
            "" if math.isnan(row["low"]) else f"{row['low']:+.4f} to {row['high']:+.4f}",
            row["verdict"],
        )
        for row in table.to_dict("records")
    ]
    return (
        f"<h2>Validation at φ = {phi:g}, on the test split</h2><p>{escape(verdict)}</p>"
        f"{_figure(validation(table, phi, metric), f'validation-{phi:g}')}{_table(header, rows)}"
    )


def _candidates_table(candidates: pd.DataFrame) -> str:
    header = (
        "", "α", "β", "γ", "blocks", "widths", "pixels", "macs ×", "parameters", "val. loss", "val. accuracy",
        "best?", "s a seed", "images/s",
    )  # fmt: skip
    done = candidates[candidates["status"].eq(DONE)]
    rows = [
        (
            str(rank),
            *(f"{row[key]:.3f}" for key in ("alpha", "beta", "gamma")),
            row["depths"],
            row["widths"],
            str(row["resolution"]),
            f"{row['macs_ratio']:.3f}",
            f"{row['params']:,}",
            plus_minus(row["val_loss"], row["val_loss_sd"]),
            plus_minus(row["val_accuracy"], row["val_accuracy_sd"]),
            chance_text(row["chance"], row["tied"]),
            f"{row['seconds']:,.1f}",
            f"{row['images_per_second']:,.0f}",
        )
        for rank, (_, row) in enumerate(done.head(ROWS).iterrows(), 1)
    ]
    more = len(done) - len(rows)
    return _table(header, rows) + (f'<p class="soft">{more} more in candidates.csv.</p>' if more else "")


def _failures(candidates: pd.DataFrame) -> str:
    failed = candidates[candidates["status"].eq(FAILED)]
    lines = (f"<li>{escape(short_name(row))}: {escape(row['failure'])}</li>" for _, row in failed.iterrows())
    return (
        f"<p>Failed (× in the triangle), and left out of the choice:</p><ul>{''.join(lines)}</ul>"
        if len(failed)
        else ""
    )


def _provenance_table(rule: ScalingRule) -> str:
    values: Mapping[str, Any] = {
        **rule.provenance,
        "data": rule.data,
        "training": rule.training,
        "rounding": rule.to_json()["rounding"],
    }
    cells = "".join(
        f'<tr><td class="key">{escape(key)}</td><td class="text">{escape(_readable(value))}</td></tr>'
        for key, value in values.items()
    )
    return f'<div class="scroll"><table>{cells}</table></div>'


def _readable(value: Any) -> str:
    """A JSON value in a line: objects as key value pairs."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_readable(item)}" for key, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
