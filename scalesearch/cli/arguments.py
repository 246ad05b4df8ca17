"""The command line's arguments: which there are, and how their values are read."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from scalesearch import __version__
from scalesearch.baselines.published import NAMES
from scalesearch.scaling.feasible import MAX_BUDGET
from scalesearch.study.sections import DEFAULT_TOLERANCE

EXIT_CODES = """exit codes: 0 done, 1 unexpected error, 2 bad input, 3 study mismatch, 4 storage,
            5 finished with failed trials, 130 interrupted"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line on stderr, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the complaint and leave."""
        sys.stderr.write(f"{self.prog}: error: {message}\n")
        raise SystemExit(2)


def words_of(argv: Sequence[str]) -> list[str]:
    """The words as argparse needs them: it takes a φ below 0 (`--phi -1:1`) for a flag unless joined to its own."""
    words = list(argv)
    for place, word in enumerate(words[:-1]):
        if word == "--phi" and re.match(r"-[\d.]", words[place + 1]):
            words[place : place + 2] = [f"--phi={words[place + 1]}"]
            break
    return words


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, but got {text!r}")
    return value


def budget(text: str) -> float:
    """A budget: a number above 1 and at most `MAX_BUDGET`."""
    value = _number(text)
    if not 1 < value <= MAX_BUDGET:
        raise argparse.ArgumentTypeError(
            f"must be a number above 1 and at most {MAX_BUDGET:,} (a multiple of the baseline's macs), but got {text}"
        )
    return value


def fraction(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be a fraction above 0 and below 1 (0.02 is 2 %), but got {text}")
    return value


def multiplier(text: str) -> float:
    """A number above 0 and at most a million."""
    value = _number(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 1,000,000, but got {text}")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def numbers(text: str) -> list[float]:
    """Numbers separated by commas."""
    return [_number(part) for part in text.split(",")]


def epoch_list(text: str) -> list[int]:
    """Rising numbers of epochs separated by commas."""
    epochs = [count(part) for part in text.split(",")]
    if epochs != sorted(set(epochs)):
        raise argparse.ArgumentTypeError(f"must be rising numbers of epochs (2,5,12), but got {text!r}")
    return epochs


def seconds(text: str) -> float:
    """A time such as 90s, 30m or 1.5h, in seconds."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        value = float(text[:-1]) * unit
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 30m or 2h, but got {text!r}")
    return value


def core_list(text: str) -> list[int]:
    """Core numbers separated by commas."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"must be core numbers separated by commas (0,1), but got {text!r}")
    return [int(part) for part in parts]


def port(text: str) -> int:
    """A port: 0 to 65535."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, but got {text!r}")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="scalesearch",
        description="Find how to split a budget between a network's depth, width and resolution.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scalesearch {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an unexpected error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    run = commands.add_parser("run", help="search: from a budget to coefficients.json; run again to resume")
    _add_study(run)
    run.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/NAME of the study)")
    run.add_argument("--workers", type=count, metavar="N", help="processes on this machine (default: the study's)")
    run.add_argument("--storage", metavar="URL", help="SQLAlchemy URL that many machines share (default: DIR/study.db)")
    run.add_argument("--study-name", metavar="NAME", help="name in the storage (default: the study file's)")
    run.add_argument("--time", type=seconds, metavar="T", help="begin no trial that would end later (90s, 30m, 2h)")
    _add_json(run)

    plan = commands.add_parser("plan", help="candidates, exact costs and predicted time; trains nothing")
    _add_study(plan)
    _add_json(plan)

    worker = commands.add_parser("worker", help="join a study from any machine")
    worker.add_argument("--storage", required=True, metavar="URL", help="the URL that `run --storage` was given")
    worker.add_argument("--study-name", required=True, metavar="NAME")
    worker.add_argument(
        "--data", metavar="SOURCE", help="where this machine holds the data (default: as the study says)"
    )

    worker.add_argument("--time", type=seconds, metavar="T", help="begin no trial that would end later (90s, 30m, 2h)")
    worker.add_argument("--cores", type=core_list, metavar="LIST", help="keep to these processor cores (0,1)")

    status = commands.add_parser("status", help="how far a run is, and who leads")
    status.add_argument("folder", type=Path, metavar="DIR")
    status.add_argument("--storage", metavar="URL", help="look there instead of at DIR/study.db")
    _add_json(status)

    report = commands.add_parser("report", help="write report.html and the tables of what there is so far")
    report.add_argument("folder", type=Path, metavar="DIR")
    report.add_argument("--storage", metavar="URL", help="look there instead of at DIR/study.db")
    _add_json(report)

    dashboard = commands.add_parser("dashboard", help="Optuna's dashboard of a run, on this machine's own address")
    dashboard.add_argument("folder", type=Path, metavar="DIR")
    dashboard.add_argument("--port", type=port, default=8080, metavar="N", help="0 takes a free one (default 8080)")
    dashboard.add_argument("--storage", metavar="URL", help="look there instead of at DIR/study.db")

    validate = commands.add_parser("validate", help="the rule against other splits at equal macs, on the test split")
    validate.add_argument("folder", type=Path, metavar="DIR")
    validate.add_argument("--phi", default="2", metavar="PHI", help="2, 2,3 or 1:3 (default 2)")
    seeds_help = "trainings of each network; five or more tell most (default: the study's)"
    validate.add_argument("--seeds", type=count, metavar="N", help=seeds_help)
    validate.add_argument("--storage", metavar="URL", help="look there instead of at DIR/study.db")
    _add_json(validate)

    export = commands.add_parser("export", help="hand the chosen coefficients over")
    export.add_argument("folder", type=Path, metavar="DIR")
    export.add_argument("--to", choices=("json",), default="json", help="format (default: json)")
    export.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to stdout")

    scale = commands.add_parser("scale", help="the family that a rule gives: multipliers, networks, exact costs")
    scale.add_argument("rule", type=Path, metavar="COEFFICIENTS.json", help="or the run folder that holds it")
    scale.add_argument("--phi", default="0:3", metavar="PHI", help="2, 0,1,2.5 or 0:7 (both included; default 0:3)")
    _add_json(scale)

    explain = commands.add_parser("explain", help="why a family costs what it does, and why B1 to B7 are not α^φ")
    explain.add_argument(
        "rule",
        type=Path,
        nargs="?",
        metavar="COEFFICIENTS.json",
        help="or a run folder (default: the paper's 1.2, 1.1, 1.15)",
    )
    explain.add_argument("--phi", default="0:7", metavar="PHI", help="2, 0,1,2.5 or 0:7 (both included; default 0:7)")
    _add_json(explain)

    counted = commands.add_parser("count", help="exact macs, parameters and activations of one network")
    counted.add_argument("--baseline", metavar="NAME", help=", ".join(NAMES))
    counted.add_argument("--study", type=Path, metavar="FILE", help="count this study's baseline instead")
    counted.add_argument("--depth", type=multiplier, default=1.0, metavar="D", help="depth multiplier (default 1)")
    counted.add_argument("--width", type=multiplier, default=1.0, metavar="W", help="width multiplier (default 1)")
    counted.add_argument(
        "--resolution",
        type=multiplier,
        metavar="R",
        help="pixels (260), or a multiplier below 8 (1.15)",
    )
    _add_rounding(counted)
    _add_json(counted)

    doctor = commands.add_parser("doctor", help="device, versions, caches, numerics and storage of this machine")
    doctor.add_argument("--storage", metavar="URL", help="also try this storage")
    _add_json(doctor)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else, on stdout")


def _add_rounding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounding", choices=("ceil", "round", "balanced"), help="how depths become whole numbers")


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--budget", type=budget, metavar="B", help="cost as a multiple of the baseline's")
    parser.add_argument("--study", type=Path, metavar="FILE", help="study file (default: the MNIST sample)")
    parser.add_argument("--baseline", metavar="NAME", help="instead of the study's: " + ", ".join(NAMES))
    parser.add_argument("--tolerance", type=fraction, metavar="T", help="allowed deviation from B (0.02 is 2 %%)")
    parser.add_argument("--seeds", type=count, metavar="N", help="trainings of each candidate")
    parser.add_argument(
        "--race", action="store_true", help="further seeds only where they matter, new candidates; stop when resolved"
    )
    parser.add_argument(
        "--prune", action="store_true", help="train no further what is behind after the same epochs (many candidates)"
    )
    parser.add_argument(
        "--epochs", type=epoch_list, metavar="N[,N…]", help="length of the schedule; shorter ones check it (2,5,12)"
    )
    parser.add_argument("--phi", type=numbers, metavar="PHI", help="levels of the budget that one rule must fit (1,2)")
    parser.add_argument("--design", choices=("lattice", "grid", "qmc", "tpe"), help="how candidates are laid out")
    parser.add_argument("--degree", type=count, metavar="M", help="lattice: (M + 1)(M + 2)/2 points")
    parser.add_argument("--size", type=count, metavar="N", help="qmc, tpe: number of candidates")
    parser.add_argument("--step", type=fraction, metavar="S", help="grid: step of the multipliers (0.05)")
    parser.add_argument(
        "--nominal", action="store_true", help="grid: the networks as they round, at whatever they really cost"
    )
    _add_rounding(parser)


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the flags change in the study file: "section.key" → value."""
    changes: dict[str, Any] = {}
    if arguments.baseline is not None:
        changes["baseline"] = {"name": arguments.baseline}
        changes["rounding"] = {}
        changes["tolerance"] = DEFAULT_TOLERANCE  # the study's is that of its own baseline's coarseness
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
        ("study_name", "name"),
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
