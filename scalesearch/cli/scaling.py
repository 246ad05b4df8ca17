"""The commands that answer at once: plan, count, scale, export. None imports jax."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

from scalesearch.baselines.published import baseline
from scalesearch.cli.arguments import overrides
from scalesearch.errors import InputError
from scalesearch.results.records import candidate_to_json
from scalesearch.runtime.files import write_text
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Rounding, round_resolution
from scalesearch.scaling.compound import scale as scale_spec
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.family import LARGEST_COUNT, ScalingRule, family, parse_phis
from scalesearch.search.plan.design import Plan, make_plan, planned_size
from scalesearch.search.plan.parts import parts_of
from scalesearch.search.plan.timing import predicted_seconds
from scalesearch.study.load import default_study_path, load_study
from scalesearch.study.sections import Study

# Below it `count --resolution` is a multiplier, from it on a number of pixels.
_SMALLEST_PIXELS = 8


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def study_of(arguments: argparse.Namespace) -> Study:
    """The study file with the flags laid over it. Raises `InputError` for a flag that its design has no use for."""
    study = load_study(arguments.study or default_study_path(), overrides(arguments))
    kind = study.design.kind
    for flag, kinds in (("degree", ("lattice",)), ("step", ("grid",)), ("size", ("qmc", "tpe"))):
        if getattr(arguments, flag) is not None and kind not in kinds:
            raise InputError(f"--{flag} belongs to --design {' or '.join(kinds)}, but the design is {kind}")
    return study


def plan(arguments: argparse.Namespace) -> int:
    """Print what the study would train."""
    parts = [(part, make_plan(part.study)) for part in parts_of(study_of(arguments))]
    if arguments.json:
        (own, made), *others = parts
        more = [{"phi": part.phi, "rung": part.rung, **plan_to_json(part.study, plan)} for part, plan in others]
        print_json({**plan_to_json(own.study, made), **({"parts": more} if more else {})})
    else:
        from scalesearch.report import terminal as display

        display.show_plan(parts)
    return 0


def plan_to_json(study: Study, made: Plan) -> dict[str, Any]:
    """The JSON of the contract."""
    seconds = predicted_seconds(study, [trial.candidate for trial in made.distinct])
    return {
        "budget": made.budget,
        "tolerance": made.tolerance,
        "baseline": {
            "name": made.baseline.name,
            "spec": made.baseline.spec.to_json(),
            **dataclasses.asdict(made.baseline_complexity),
        },
        "combinations": made.combinations,
        "counted": made.counted,
        "feasible": made.feasible,
        "distinct": planned_size(study, made),
        "unreached": list(made.unreached),
        "predicted_seconds": None if seconds is None else round(seconds),
        "candidates": [candidate_to_json(trial.candidate) for trial in made.trials],
    }


def count(arguments: argparse.Namespace) -> int:
    """Print the exact cost of one network."""
    if (arguments.baseline is None) == (arguments.study is None):
        raise InputError("count needs --baseline NAME or --study FILE, one of the two")
    if arguments.study is not None:
        base = load_study(arguments.study).resolved_baseline()
    else:
        try:
            base = baseline(arguments.baseline)
        except ValueError as error:
            raise InputError(str(error).replace("`baseline`", "--baseline")) from None
    _check_countable(arguments, base.spec)
    rounding = base.rounding
    if arguments.rounding:
        rounding = dataclasses.replace(rounding, depth=arguments.rounding)
    spec = scale_spec(base.spec, Coefficients(arguments.depth, arguments.width, 1.0), rounding)
    spec = dataclasses.replace(spec, resolution=_pixels(arguments.resolution, spec.resolution, rounding))
    cost = complexity(spec)
    if arguments.json:
        print_json({**dataclasses.asdict(cost), "spec": spec.to_json()})
    else:
        from scalesearch.report import terminal as display

        display.show_count(base.name, spec, cost, complexity(base.spec))
    return 0


def _check_countable(arguments: argparse.Namespace, spec: ArchitectureSpec) -> None:
    asked = arguments.resolution or 1.0
    grown = asked if asked < _SMALLEST_PIXELS else asked / spec.resolution
    logs = (math.log(factor) for factor in (arguments.depth, arguments.width, arguments.width, grown, grown))
    if math.fsum(logs) + math.log(complexity(spec).macs) > math.log(LARGEST_COUNT):
        raise InputError(
            f"--depth, --width and --resolution must give less than {LARGEST_COUNT:.2g} macs, above which they are not "
            f"exact, but got {arguments.depth:g}, {arguments.width:g} and {asked:g}"
        )


def _pixels(asked: float | None, resolution: int, rounding: Rounding) -> int:
    if asked is None:
        return resolution
    if asked < _SMALLEST_PIXELS:
        return round_resolution(resolution, asked, rounding.resolution_step)
    if not asked.is_integer():
        raise InputError(f"--resolution must be a whole number of pixels or a multiplier below 8, but got {asked:g}")
    return int(asked)


def read_rule(path: Path) -> ScalingRule:
    """The rule of a coefficients.json, or of the run folder that holds it. Raises `InputError` naming file and key."""
    if path.is_dir():
        path = path / "coefficients.json"
    try:
        return ScalingRule.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def warn_of(rule: ScalingRule) -> None:
    """On stderr, why not to build on `rule` yet: it is not resolved, or trials were missing when it was written."""
    trials = rule.provenance.get("trials", {})
    left = trials.get("waiting", 0) + trials.get("running", 0) if isinstance(trials, dict) else 0
    if left:
        sys.stderr.write(f"scalesearch: this rule is provisional: {left} trials were still to be trained\n")
    if not rule.resolved:
        sys.stderr.write("scalesearch: this rule is not resolved: other splits may be as good\n")


def scale(arguments: argparse.Namespace) -> int:
    """Print the family of a rule."""
    rule = read_rule(arguments.rule)
    try:
        members = family(rule, parse_phis(arguments.phi))
    except ValueError as error:
        raise InputError(f"--phi: {error}") from None
    warn_of(rule)
    if arguments.json:
        print_json({"family": [member.to_json() for member in members]})
    else:
        from scalesearch.report import terminal as display

        display.show_family(members)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Hand over the coefficients of a run."""
    path = arguments.folder / "coefficients.json"
    if not arguments.folder.is_dir():
        raise InputError(f"{arguments.folder}: no such run folder")
    if not path.exists():
        raise InputError(f"{arguments.folder}: no coefficients.json there yet; finish the run first")
    rule = read_rule(path)
    warn_of(rule)
    text = json.dumps(rule.to_json(), indent=2) + "\n"
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        try:
            write_text(arguments.output, text)
        except OSError as error:
            raise InputError(f"--output {arguments.output}: cannot be written ({error.strerror})") from None
        sys.stderr.write(f"wrote {arguments.output}\n")
    return 0
