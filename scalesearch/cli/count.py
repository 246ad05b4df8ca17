"""The command count: the exact cost of one network."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

from scalesearch.baselines.protocol import find_baseline
from scalesearch.baselines.published import NAMES
from scalesearch.cli.arguments import add_json, multiplier
from scalesearch.cli.output import print_json
from scalesearch.cli.study_flags import add_rounding, add_study
from scalesearch.errors import InputError
from scalesearch.runtime.modules import look_in
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Baseline, Rounding, round_resolution, scale
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.family import LARGEST_COUNT
from scalesearch.study.load import load_study

# Below this `--resolution` is a multiplier; otherwise it is a number of pixels.
_SMALLEST_PIXELS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The baseline, its multipliers and their rounding."""
    parser.add_argument("--baseline", metavar="NAME", help=f"{', '.join(NAMES)}, or MODULE:NAME of your own")
    add_study(parser, "count the baseline of this study instead")
    parser.add_argument("--depth", type=multiplier, default=1.0, metavar="D", help="depth multiplier (default 1)")
    parser.add_argument("--width", type=multiplier, default=1.0, metavar="W", help="width multiplier (default 1)")
    resolution = f"pixels (260), or a multiplier below {_SMALLEST_PIXELS} (1.15)"
    parser.add_argument("--resolution", type=multiplier, metavar="R", help=resolution)
    add_rounding(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print macs, parameters and activations of the scaled baseline."""
    base = _baseline(arguments.baseline, arguments.study)
    _check_countable(base.spec, arguments.depth, arguments.width, arguments.resolution or 1.0)
    rounding = base.rounding
    if arguments.rounding:
        rounding = dataclasses.replace(rounding, depth=arguments.rounding)
    spec = scale(base.spec, Coefficients(arguments.depth, arguments.width, 1.0), rounding)
    spec = dataclasses.replace(spec, resolution=_pixels(arguments.resolution, spec.resolution, rounding))
    cost = complexity(spec)
    if arguments.json:
        print_json({**dataclasses.asdict(cost), "spec": spec.to_json()})
    else:
        from scalesearch.report import terminal

        terminal.show_count(base.name, spec, cost, complexity(base.spec))
    return 0


def _baseline(name: str | None, study: str | None) -> Baseline:
    if (name is None) == (study is None):
        raise InputError("count needs --baseline NAME or --study FILE, one of the two")
    if study is not None:
        return load_study(study).resolved_baseline()
    look_in(Path.cwd())
    try:
        return find_baseline(str(name))
    except ValueError as error:
        raise InputError(str(error).replace("`baseline`", "--baseline").replace("`name`", "--baseline")) from None


def _check_countable(spec: ArchitectureSpec, depth: float, width: float, resolution: float) -> None:
    """Raises `InputError` for a network too large to be counted exactly."""
    grown = resolution if resolution < _SMALLEST_PIXELS else resolution / spec.resolution
    logs = (math.log(factor) for factor in (depth, width, width, grown, grown))
    if math.fsum(logs) + math.log(complexity(spec).macs) > math.log(LARGEST_COUNT):
        raise InputError(
            f"--depth, --width and --resolution must give less than {LARGEST_COUNT:.2g} macs, above which they are not "
            f"exact, but got {depth:g}, {width:g} and {resolution:g}"
        )


def _pixels(requested: float | None, resolution: int, rounding: Rounding) -> int:
    if requested is None:
        return resolution
    if requested < _SMALLEST_PIXELS:
        return round_resolution(resolution, requested, rounding.resolution_step)
    if not requested.is_integer():
        raise InputError(
            f"--resolution must be a whole number of pixels or a multiplier below {_SMALLEST_PIXELS}, "
            f"but got {requested:g}"
        )
    return int(requested)
