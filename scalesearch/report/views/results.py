"""Tables of what was trained: leaderboards, validations, schedules, and what a choice rests on."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scalesearch.analysis.metrics import chance_text, metric_of
from scalesearch.report.views.table import (
    SHARE_KEYS,
    Table,
    make_table,
    multipliers,
    named_values,
    network,
    network_text,
    shares,
)
from scalesearch.results.records import DONE, TrialRecord
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.rule import ScalingRule

if TYPE_CHECKING:
    import pandas as pd

    from scalesearch.analysis.choice import Choice
    from scalesearch.analysis.signal import Signal
    from scalesearch.analysis.surfaces.base import Surface
    from scalesearch.analysis.validation import Validation

_LETTERS = ("alpha", "beta", "gamma")
_INFLUENTIAL = 3


def leaderboard(candidates: pd.DataFrame, most: int | None = None, baseline: pd.DataFrame | None = None) -> Table:
    """The finished candidates, best first, of each level `most`, and below them the baseline.

    `candidates` and `baseline` have `tables.CANDIDATE_COLUMNS`.
    """
    done = candidates[candidates["status"].eq(DONE)]
    several_levels = done["phi"].nunique() > 1
    ranked = done.assign(rank=done.groupby("phi").cumcount() + 1)
    shown = ranked if most is None else ranked.groupby("phi").head(most)
    listed = [(str(row["rank"]), row) for row in shown.to_dict("records")]
    left = len(done) - len(listed)
    if baseline is not None:
        listed += [("base", row) for row in baseline[baseline["status"].eq(DONE)].to_dict("records")]
    unknown = () if any("val_balanced_accuracy" in row for _, row in listed) else ("val_balanced_accuracy",)
    rows = [
        {
            "rank": rank,
            **({"phi": f"{row['phi']:g}"} if several_levels else {}),
            **multipliers(Coefficients(row["alpha"], row["beta"], row["gamma"])),
            **shares([row[key] for key in SHARE_KEYS]),
            "real_cost": f"{row['macs_ratio']:.3f}×",
            "val_loss": f"{row['val_loss']:.4f}",
            "val_loss_sd": _unless_nan(row["val_loss_sd"], ".4f"),
            "val_accuracy": f"{row['val_accuracy']:.2%}",
            "val_accuracy_sd": _unless_nan(row["val_accuracy_sd"], ".2%"),
            "val_balanced_accuracy": _unless_nan(row.get("val_balanced_accuracy", math.nan), ".2%"),
            "chance": chance_text(row["chance"], row["tied"]),
            "network": network_of(row) if rank != "base" else f"baseline: {network_of(row)}",
            "blocks": row["depths"],
            "widths": row["widths"],
            "pixels": str(row["resolution"]),
            "params": f"{row['params']:,}",
            "seconds": f"{row['seconds']:,.1f}",
        }
        for rank, row in listed
    ]
    optional = (SHARE_KEYS, ("real_cost",), ("val_accuracy", "val_balanced_accuracy"), ("rank",), ("val_loss_sd",))
    notes = [f"{left:,} more in candidates.csv."] if left else []
    return make_table("Candidates, best first", rows, optional, notes).without(*unknown)


def leaders(records: Iterable[TrialRecord], metric: str, heading: str, most: int) -> Table:
    """The `most` best of finished `records`, one for each candidate, while a search runs.

    `heading` is the name of the metric, which in a validation is that on the test split.
    """
    sign = -1 if metric_of(metric).maximise else 1
    finished = (record for record in records if record.failure is None and not record.candidate.is_baseline)
    best = heapq.nsmallest(most, finished, key=lambda record: sign * record.mean(metric))
    rows = (
        {
            "rank": str(rank),
            **multipliers(record.candidate.coefficients),
            heading: f"{record.mean(metric):.4f}",
            "network": network(record.candidate.spec),
        }
        for rank, record in enumerate(best, start=1)
    )
    return make_table("Candidates so far, best first", rows, [("rank",)])


def network_of(row: Mapping[Any, Any]) -> str:
    """The network of a row of the candidates' table, as `views.table.network` writes it."""
    return network_text(row["depths"].split(), row["widths"].split()[1:-1], row["resolution"])


def validation(one: Validation, metric: str | None = None) -> Table:
    """The rule and its rivals at one φ; `metric` is that of the study, if it is known."""
    value = metric_of(metric).on_test if metric else "value"
    rows = (
        {
            "split": row["rivals"],
            **shares([row[key] for key in SHARE_KEYS]),
            "real_cost": f"{row['macs_ratio']:.3f}×",
            value: f"{row['value']:.4f}",
            "rule better by": f"{row['better_by']:+.4f}" if row["verdict"] else "",
            "95 %": _interval(row["low"], row["high"], "+.4f"),
            "rule is": row["verdict"],
        }
        for row in one.table.to_dict("records")
    )
    return make_table(
        f"Splits at φ = {one.phi:g} on the test split: shares of the budget, and result",
        rows,
        (SHARE_KEYS, ("real_cost",), (value,)),
        (one.verdict, one.reading),
    )


def schedule(table: pd.DataFrame) -> Table:
    """Shorter schedules against the whole one; `table` has `analysis.schedule.COLUMNS`."""
    rows = (
        {
            "epochs": str(row["epochs"]),
            "candidates": str(row["candidates"]),
            "Kendall's τ": f"{row['tau']:.2f}",
            "95 %": _interval(row["low"], row["high"], ".2f"),
            **shares([row[key] for key in SHARE_KEYS]),
            "in the region": "yes" if row["agrees"] else "no",
        }
        for row in table.to_dict("records")
    )
    return make_table("Candidate order, and choice, after fewer epochs", rows, (("candidates",), SHARE_KEYS))


def rule(one: ScalingRule) -> Table:
    """Coefficients, shares and, if they are known, intervals."""
    titles = ("depth (α)", "width (β)", "resolution (γ)")
    rows = [
        {"name": "coefficient", **_titled(titles, (f"{getattr(one, name):.4f}" for name in _LETTERS))},
        {"name": "share of the budget", **_titled(titles, (f"{share:.0%}" for share in one.shares.values))},
    ]
    if one.intervals:
        bounds = ("{:.3f} to {:.3f}".format(*one.intervals[name]) for name in _LETTERS)
        rows.append({"name": f"{one.intervals['level']:.0%} interval", **_titled(titles, bounds)})
    certain = "resolved" if one.resolved else "not resolved: other splits may be as good"
    basis = f"{one.baseline.name}, a budget of {one.budget:g}×, by {one.metric}; {certain}."
    return make_table("Scaling rule", rows, notes=(basis,))


def choice(one: Choice) -> Table:
    """The chosen shares and, if there is a surface, their confidence intervals."""
    rows = [{"share of the budget": "chosen", **_titled(SHARE_KEYS, (f"{share:.0%}" for share in one.shares.values))}]
    if one.region is not None:
        bounds = (f"{low:.0%} to {high:.0%}" for low, high in zip(one.region.low, one.region.high, strict=True))
        rows.append(
            {"share of the budget": f"with {one.region.level:.0%} confidence", **_titled(SHARE_KEYS, bounds)},
        )
    return make_table(f"Choice ({one.where})", rows, notes=(one.signal.verdict, one.basis, one.certainty))


def signal(one: Signal) -> Table:
    """How far the candidates differ, and what explains it."""
    values = {
        "spread of the candidates (sd)": _or_unknown(one.spread, ".4g"),
        "noise of a candidate's mean (sd)": _or_unknown(one.noise, ".4g"),
        "p if all candidates were equal": _or_unknown(one.p, ".2g"),
        "p if the shares had no effect": _or_unknown(one.surface_p, ".2g"),
        "p if the surface were exact": _or_unknown(one.lack_of_fit_p, ".2g"),
        "part of the triangle that may hold the optimum": _or_unknown(one.region, ".1%"),
        "most that another split could gain": _or_unknown(one.regret, ".4g"),
        "range from the surface's best split to its worst": _or_unknown(one.range, ".4g"),
    }
    return named_values(f"Signal: {one.metric}, {one.candidates} candidates", values, one.verdict)


def surface(one: Surface) -> Table:
    """The parameters of a response surface."""
    header, rows = one.parameters()
    fit = f"Adjusted R² {one.adjusted_r2:.2f} over {one.n} candidates; p = {one.p:.2g} against a constant."
    notes = [note for note in (fit, one.model_note, one.covariate_note) if note]
    cells = (dict(zip(header, row, strict=True)) for row in rows)
    return make_table(f"{one.model} surface of {one.metric}", cells, notes=notes)


def surface_errors(one: Surface) -> Table:
    """The error of predicting a candidate that is left out, for each model that was tried."""
    rows = (
        {"model": model, "root mean square": f"{error:.4g}", "taken": "this one" if model == one.model else ""}
        for model, error in one.validation
    )
    return make_table("Error of predicting a candidate that is left out", rows)


def influential(one: Surface, finished: pd.DataFrame) -> Table:
    """The most influential of the `finished` candidates (rows of the candidates' table), those of the surface."""
    places = sorted(range(one.n), key=lambda place: -one.influence[place])[:_INFLUENTIAL]
    rows = (
        {
            "candidate": short_name(finished.iloc[place]),
            "Cook's distance": f"{one.influence[place]:.2f}",
            "result − prediction by the others": f"{one.left_out[place]:+.4f}",
        }
        for place in places
    )
    return make_table("The most influential candidates", rows)


def short_name(row: Mapping[Any, Any] | pd.Series) -> str:
    """A candidate's realised multipliers, from a row of the candidates' table."""
    return f"α {row['alpha']:.2f}  β {row['beta']:.2f}  γ {row['gamma']:.2f}"


def facts(caption: str, values: Mapping[str, Any]) -> Table:
    """Keys and JSON values, a row for each."""
    return named_values(caption, {key: _json_text(value) for key, value in values.items()})


def _json_text(value: Any) -> str:
    """A JSON value in one line; an object as its keys and values."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_json_text(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _titled(titles: Iterable[str], cells: Iterable[str]) -> dict[str, str]:
    return dict(zip(titles, cells, strict=True))


def _interval(low: float, high: float, form: str) -> str:
    return "" if math.isnan(low) else f"{low:{form}} to {high:{form}}"


def _unless_nan(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _or_unknown(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)
