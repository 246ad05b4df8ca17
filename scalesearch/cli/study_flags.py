"""The flags that choose a study and change it, shared by `run` and `plan`."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from typing import Any, get_args

from scalesearch.baselines.published import NAMES
from scalesearch.cli.arguments import count, epoch_list, fraction, number, numbers
from scalesearch.errors import InputError
from scalesearch.runtime.text import enumerated
from scalesearch.scaling.compound import DepthRounding
from scalesearch.scaling.family import DEFAULT_TOLERANCE
from scalesearch.scaling.feasible import MAX_BUDGET
from scalesearch.study.load import DEFAULT_STUDY, StudyFileError, load_study, shipped_studies
from scalesearch.study.sections import DESIGNS_OF, DesignKind, Study

_FLAGS = {
    "data.source": "--data",
    "rungs": "--epochs",
    "design.kind": "--design",
    "design.band": "--tolerance",
    "rounding.depth": "--rounding",
    "name": "--study-name",
}
"""The flags that do not have the name of the key that they change."""


def budget(text: str) -> float:
    """A budget: a number above 1 and at most `MAX_BUDGET`."""
    value = number(text)
    if not 1 < value <= MAX_BUDGET:
        raise argparse.ArgumentTypeError(
            f"must be a number above 1 and at most {MAX_BUDGET:,} (a multiple of the baseline's cost), but got {text}"
        )
    return value


def add_study_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `study_from` reads."""
    flag = parser.add_argument
    flag("--budget", type=budget, metavar="B", help="cost as a multiple of the baseline's")
    add_study(parser, f"study file, or a shipped study: {', '.join(shipped_studies())} (default: {DEFAULT_STUDY})")
    data = "images instead of the study's; without --study, a usual study of them (folder:DIR, npz:FILE, …)"
    flag("--data", metavar="SOURCE", help=data)
    flag("--baseline", metavar="NAME", help=f"instead of the study's: {', '.join(NAMES)}, or MODULE:NAME")
    flag("--tolerance", type=fraction, metavar="T", help="allowed deviation from B (0.02 is 2 %%)")
    flag("--seeds", type=count, metavar="N", help="trainings of each candidate")
    race = "train further seeds only where they matter, and new candidates; stop when resolved"
    flag("--race", action="store_true", help=race)
    flag("--prune", action="store_true", help="stop weak candidates early (for many candidates)")
    epochs = "length of the schedule; shorter ones before it check it (2,5,12)"
    flag("--epochs", type=epoch_list, metavar="N[,N…]", help=epochs)
    flag("--phi", type=numbers, metavar="PHI", help="levels of the budget that one rule must fit (1,2)")
    flag("--design", choices=get_args(DesignKind), help="how candidates are laid out")
    flag("--degree", type=count, metavar="M", help="lattice: (M + 1)(M + 2)/2 points")
    flag("--size", type=count, metavar="N", help="qmc, tpe: number of candidates")
    flag("--step", type=fraction, metavar="S", help="grid: step of the multipliers (0.05)")
    nominal = "grid: train the networks as they round, whatever they really cost"
    flag("--nominal", action="store_true", help=nominal)
    add_rounding(parser)


def add_study(parser: argparse.ArgumentParser, explanation: str) -> None:
    """The flag --study."""
    parser.add_argument("--study", metavar="FILE", help=explanation)


def add_rounding(parser: argparse.ArgumentParser) -> None:
    """The flag --rounding."""
    parser.add_argument("--rounding", choices=get_args(DepthRounding), help="how depths become whole numbers")


def study_from(arguments: argparse.Namespace) -> Study:
    """The study with the flags applied.

    Raises `InputError` for a study that is missing or wrong, and for a flag that its design does not use.
    """
    changes = _changes(arguments)
    try:
        study = _changed(arguments, changes)
    except StudyFileError as error:
        key = next(filter(error.is_about, changes), None)
        if key is None:
            raise
        raise InputError(f"{_FLAGS.get(key, '--' + key.rpartition('.')[2])}: {error.fault}") from None
    for flag, designs in DESIGNS_OF.items():
        if getattr(arguments, flag, None) is not None and study.design.kind not in designs:
            raise InputError(
                f"--{flag} belongs to --design {' or '.join(designs)}, but the design is {study.design.kind}"
            )
    return study


def _changed(arguments: argparse.Namespace, changes: Mapping[str, Any]) -> Study:
    """The study that the flags name, with `changes`."""
    name = DEFAULT_STUDY if arguments.study is None else arguments.study
    if arguments.data is not None and arguments.study is None:
        from scalesearch.data.usual import usual_study

        return usual_study(arguments.data, changes)
    study = load_study(name, changes)
    if arguments.baseline is not None:
        _say_replaced(load_study(name), study)
    return study


def _say_replaced(before: Study, study: Study) -> None:
    """Warns of what `--baseline` replaces besides the baseline."""
    replaced = []
    if before.tolerance != study.tolerance:
        replaced.append(f"its tolerance ({study.tolerance:g} instead of {before.tolerance:g})")
    if before.rounding != study.rounding:
        replaced.append("its rounding")
    words = {"resolution": "px", "in_channels": "channels", "num_classes": "classes"}
    for key, word in words.items():
        value = getattr(before.baseline, key)
        if value is not None and before.baseline.stages is None:
            replaced.append(f"its {value} {word}")
    if replaced:
        warnings.warn(
            f"--baseline {study.baseline.name} replaces the study's baseline {before.baseline.name}, "
            f"{enumerated(replaced)}",
            stacklevel=3,
        )


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the flags change in the study file: "section.key" → value."""
    changes: dict[str, Any] = {}
    if arguments.baseline is not None:
        # The study's rounding and tolerance are those of the baseline that it names.
        changes |= {"baseline": {"name": arguments.baseline}, "rounding": {}, "tolerance": DEFAULT_TOLERANCE}
    for flag, key in (
        ("budget", "budget"),
        ("tolerance", "design.band" if arguments.nominal else "tolerance"),
        ("seeds", "seeds"),
        ("design", "design.kind"),
        ("degree", "design.degree"),
        ("size", "design.size"),
        ("step", "design.step"),
        ("rounding", "rounding.depth"),
        ("phi", "phi"),
        ("data", "data.source"),
        ("study_name", "name"),  # for `run` only, like the next one
        ("workers", "runtime.workers"),
    ):
        value = getattr(arguments, flag, None)
        if value is not None:
            changes[key] = value
    for flag in ("race", "prune"):
        if getattr(arguments, flag):
            changes[flag] = True
    if arguments.epochs is not None:
        *changes["rungs"], changes["training.epochs"] = arguments.epochs
    if arguments.nominal:
        changes["design.nominal"] = True
        changes.setdefault("design.kind", "grid")
    return changes
