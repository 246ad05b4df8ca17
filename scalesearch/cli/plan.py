"""The command plan: what a study would train."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from scalesearch.cli.arguments import add_json
from scalesearch.cli.output import print_json
from scalesearch.cli.study_flags import add_study_flags, study_from
from scalesearch.errors import InputError
from scalesearch.results.records import candidate_to_json
from scalesearch.search.plan.design import Plan, planned_size
from scalesearch.search.plan.parts import plans_of
from scalesearch.search.plan.reference import reference_seconds
from scalesearch.search.plan.timing import predicted_seconds
from scalesearch.study.sections import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a study, --no-data and --json."""
    add_study_flags(parser)
    no_data = "do not look at the data: plan for the baseline's own channels, classes and resolution"
    parser.add_argument("--no-data", action="store_true", help=no_data)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the candidates of each part of the study, their costs, and the predicted time."""
    if arguments.no_data and arguments.data is not None:
        raise InputError("--data and --no-data exclude each other")
    study, splits = study_from(arguments), None
    if not arguments.no_data:
        from scalesearch.data.resolve import resolve, with_sizes

        study, splits = resolve(study)
        study = with_sizes(study, splits)  # nothing is stored: only the time depends on them
    parts = plans_of(study)
    if arguments.json:
        (first, plan), *others = parts
        more = [{"phi": part.phi, "rung": part.rung, **plan_to_json(part.study, plan)} for part, plan in others]
        document = plan_to_json(first.study, plan, reference_seconds(first.study))
        print_json({**document, **({"parts": more} if more else {})})
    else:
        from scalesearch.report import terminal

        terminal.show_plan(parts, splits)
    return 0


def plan_to_json(study: Study, plan: Plan, more_seconds: float | None = 0.0) -> dict[str, Any]:
    """The plan of one search in the JSON of the command; `more_seconds` are those of its reference."""
    seconds = predicted_seconds(study, [trial.candidate for trial in plan.distinct])
    return {
        "budget": plan.budget,
        "tolerance": plan.tolerance,
        "baseline": {
            "name": plan.baseline.name,
            "spec": plan.baseline.spec.to_json(),
            **dataclasses.asdict(plan.baseline_complexity),
        },
        "combinations": plan.combinations,
        "counted": plan.counted,
        "feasible": plan.feasible,
        "distinct": planned_size(study, plan),
        "unreached": list(plan.unreached),
        "predicted_seconds": None if seconds is None else round(seconds + (more_seconds or 0.0)),
        "candidates": [candidate_to_json(trial.candidate) for trial in plan.trials],
    }
