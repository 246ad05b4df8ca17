"""The report of a run: the answer, what it rests on, and the figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from scalesearch.analysis.choice import Choice
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.outcome import Outcome
from scalesearch.analysis.schedule import warning
from scalesearch.analysis.signal import Signal
from scalesearch.analysis.standing import SOUND
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.analysis.tables import finished_candidates, seeds_note
from scalesearch.analysis.validation import Validation
from scalesearch.report.figures import candidates as figures
from scalesearch.report.figures.cost import COSTS
from scalesearch.report.page import Block, Section, drawn, page, section
from scalesearch.report.views import networks, results
from scalesearch.report.views.results import short_name
from scalesearch.report.views.table import SHARE_KEYS, TRAINING_KEYS
from scalesearch.results.records import DONE, FAILED, PRUNED
from scalesearch.runtime.text import percent, plural
from scalesearch.scaling.family import cost_note
from scalesearch.scaling.rule import ScalingRule

# Candidates per level in the table.
ROWS = 50

# The columns of the report's tables, in order.
LEADERBOARD = (
    "rank", "phi", "val_loss", "val_loss_sd", "val_accuracy", "val_accuracy_sd", "val_balanced_accuracy", "chance",
    "alpha", "beta", "gamma", "blocks", "widths", "pixels", "real_cost", "params", "seconds",
)  # fmt: skip
FAMILY = (
    "phi", "depth_times", "width_times", "resolution_times", *SHARE_KEYS, "blocks", "widths", "pixels", "macs",
    "nominal", "real_cost", "params", "activations", *TRAINING_KEYS,
)  # fmt: skip


def render(outcome: Outcome, validations: Sequence[Validation] = ()) -> str:
    """The report of `outcome` as a page, finished or not.

    Args:
        outcome: what the records say; without a finished candidate the page says so and has no figure.
        validations: the rule against its rivals, by φ.
    """
    rule, choice = (outcome.rule, outcome.choice) if outcome.has_rule else (None, None)
    head: list[Block] = [("soft", _subtitle(outcome)), ("verdict", _progress(outcome))]
    sections: list[Section] = []
    if not outcome.has_result:
        head.append(("answer", "No candidate has finished: there is nothing to choose from, and no figure."))
        head.append(("failures", _failures(outcome.candidates)))
    elif rule is None or choice is None:
        head.append(("answer", outcome.standing.answer))
        sections += [_candidates(outcome), _training(outcome)]
    else:
        head += _answer(outcome, warning(outcome.schedule))
        triangle = figures.triangle(outcome.candidates, choice, outcome.study.metric, outcome.study.budget)
        head.append(("figure", drawn(triangle, "triangle")))
        sections += _sections(outcome, validations)
    sections.append(section("provenance", "Provenance", ("facts", _provenance(outcome, rule))))
    return page(outcome.study.name, head, sections, figures=outcome.has_result)


def _answer(outcome: Outcome, doubt: str) -> list[Block]:
    rule, choice = outcome.rule, outcome.choice
    after = "plain" if outcome.standing.state == SOUND else "answer"
    notes = (choice.surface.model_note, choice.surface.covariate_note) if choice.surface else ()
    sentences = [choice.basis, *(f"{note[0].upper()}{note[1:]}." for note in notes if note)]
    return [
        *((kind, sentence) for kind, sentence in zip(("answer", after), answers(outcome), strict=False)),
        ("verdict resolved" if rule.resolved else "verdict", choice.signal.verdict),
        ("verdict", doubt),
        ("soft", " ".join(sentences)),
        ("plain", choice.certainty),
    ]


def answers(outcome: Outcome) -> list[str]:
    """What a run answers, in order: any doubt about the candidates first, then the rule, else what the cost buys."""
    standing, rule = outcome.standing, answer(outcome.rule, outcome.choice)
    both = [rule, standing.answer] if standing.state == SOUND else [standing.answer, rule]
    return [sentence for sentence in both if sentence]


def answer(rule: ScalingRule, choice: Choice) -> str:
    """The result in one sentence."""
    depth, width, resolution = (percent(share, 2) for share in rule.shares.values)
    doubt = "" if rule.resolved else " This is not resolved: other splits may be as good."
    return (
        f"Spend {depth} of the budget on depth, {width} on width and {resolution} on resolution"
        f" ({choice.where}): α = {rule.alpha:.4f}, β = {rule.beta:.4f}, γ = {rule.gamma:.4f}.{doubt}"
    )


def _sections(outcome: Outcome, validations: Sequence[Validation]) -> Iterator[Section]:
    """What a rule rests on, and what it gives."""
    metric, candidates, choice = outcome.study.metric, outcome.candidates, outcome.choice
    members = outcome.family()
    costs = cost_note(members, outcome.study.tolerance)
    yield section("family", "The family", ("soft", costs), ("table", networks.family(members).select(*FAMILY)))

    # The validations: all in one chart if there are several, then one after the other.
    if len(validations) > 1:
        chart = figures.validation_over_macs({one.phi: one.table for one in validations}, metric)
        yield section("growth", "Growing the baseline", ("figure", drawn(chart, "validation-over-macs")))
    for one in validations:
        yield section(
            f"validation-at-{one.phi:g}",
            f"Validation at φ = {one.phi:g}, on the test split",
            ("plain", one.verdict),
            ("soft", one.reading),
            ("figure", drawn(figures.validation(one.table, one.phi, metric), f"validation-{one.phi:g}")),
            ("table", results.validation(one, metric)),
        )

    # The candidates and what the choice rests on.
    yield _candidates(outcome)
    if choice.surface is not None:
        yield section("fit", "How well the surface fits", *_fit(choice.surface, choice.signal, candidates))
    if len(outcome.schedule):
        table = results.schedule(outcome.schedule)
        yield section("schedule", "Shorter schedules", ("plain", warning(outcome.schedule)), ("table", table))

    # Training and cost.
    yield _training(outcome)
    yield section(
        "cost",
        "Cost",
        ("grid", [drawn(figures.accuracy_over(candidates, column), f"over-{column}") for column in COSTS]),
        ("figure", drawn(figures.cost(candidates, outcome.study.budget), "cost")),
    )


def _candidates(outcome: Outcome) -> Section:
    candidates, baseline = outcome.candidates, outcome.baseline
    shown = results.leaderboard(candidates, ROWS, baseline).select(*LEADERBOARD)
    chart = figures.leaderboard(candidates, outcome.trials, outcome.study.metric, outcome.reference)
    base = "base: the baseline, trained on the same schedule with the same seeds." if len(baseline) else ""
    return section(
        "candidates",
        "Candidates",
        ("figure", drawn(chart, "leaderboard")),
        ("table", shown),
        ("soft", " ".join((base, shown.meanings, *shown.notes, seeds_note(candidates)))),
        ("failures", _failures(candidates)),
    )


def _training(outcome: Outcome) -> Section:
    curves = figures.learning_curves(outcome.records, outcome.study.metric, outcome.reference)
    errors = figures.error_distribution(outcome.candidates)
    return section("training", "Training", ("figure", drawn(curves, "curves")), ("figure", drawn(errors, "errors")))


def _fit(surface: Surface, signal: Signal, candidates: pd.DataFrame) -> Iterator[Block]:
    """How far the surface can be trusted."""
    seed_sd, p = (
        "unknown" if value is None else format(value, form)
        for value, form in ((signal.seed_sd, ".4g"), (signal.lack_of_fit_p, ".3f"))
    )
    sentences = (
        f"The errors below assume that one seed's result deviates from the surface by {surface.residual_sd:.4g} (sd, "
        f"{surface.residual_df:,.0f} degrees of freedom); from its candidate's mean it deviates by {seed_sd}. "
        f"If the surface were exact, candidates would deviate from it this far with p = {p}. "
        "The quadratic model is taken unless another model that can have its optimum inside the triangle predicts "
        "better by two standard errors. The linear model, whose optimum is always a corner, is listed for comparison."
    )
    yield "plain", sentences
    yield "table", results.surface_errors(surface)
    yield "table", dataclasses.replace(results.surface(surface), caption=f"{surface.model} surface")
    yield "table", results.influential(surface, finished_candidates(candidates, surface.metric))


def _provenance(outcome: Outcome, rule: ScalingRule | None) -> Any:
    study = outcome.study
    made = {"trials": outcome.states}
    if rule is not None:  # without what other sections show
        made = {key: value for key, value in rule.provenance.items() if key not in ("chances", "standing")}
    settings = {
        "data": study.data.model_dump(mode="json"),
        "training": study.training.model_dump(mode="json"),
        "rounding": study.resolved_baseline().rounding.to_json(),
    }
    return results.facts("What it was made with", {**made, **settings})


def _subtitle(outcome: Outcome) -> str:
    study, status = outcome.study, outcome.candidates["status"]
    counts = {name: int(status.eq(name).sum()) for name in (DONE, PRUNED, FAILED)}
    seeds = f"{'up to ' if study.race else ''}{plural(study.seeds, 'seed')} each"
    trained = plural(counts.pop(DONE), "candidate")
    parts = (study.baseline.name, f"budget {study.budget:g}×", metric_of(study.metric).label, trained, seeds)
    return ", ".join([*parts, *(f"{count} {name}" for name, count in counts.items() if count)])


def _progress(outcome: Outcome) -> str:
    """How far an unfinished study is; empty for a finished one."""
    if not outcome.trials_left:
        return ""
    states = outcome.states
    shown = ("complete", *["pruned"] * bool(states["pruned"]), "failed", "running", "waiting")
    counts = ", ".join(f"{states[state]} {state}" for state in shown)
    return f"Not finished: of {sum(states.values())} trials {counts}. What follows may change."


def _failures(candidates: pd.DataFrame) -> list[str]:
    failed = candidates[candidates["status"].eq(FAILED)]
    return [f"{short_name(row)}: {row['failure']}" for row in failed.to_dict("records")]
