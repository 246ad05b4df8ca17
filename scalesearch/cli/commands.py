"""The commands: one list of names, and the parser that is built from it."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn, Protocol, cast

from scalesearch import __version__
from scalesearch.cli.output import shortened

COMMANDS: Mapping[str, str] = {
    "run": "search: from a budget to coefficients.json; run again to resume",
    "plan": "candidates, exact costs and predicted time; trains nothing",
    "init": "make a study in a shared storage for workers to join; trains nothing",
    "worker": "join a study from any machine",
    "status": "how far a run is, and which candidates lead",
    "report": "write report.html and the tables of the trials so far",
    "dashboard": "Optuna's dashboard of a run, served to this machine only",
    "validate": "the rule against other splits at equal macs, on the test split",
    "train": "train a network of the family; run again to resume",
    "evaluate": "how good a trained model is on labelled images",
    "predict": "the classes of pictures by a trained model",
    "export": "hand over a rule, a network or a trained model to another library",
    "scale": "the family that a rule gives: multipliers, networks, exact costs",
    "explain": "why a family costs what it does, and why B1 to B7 are not α^φ",
    "count": "exact macs, parameters and activations of one network",
    "doctor": "device, versions, caches, numerics and storage of this machine",
    "completion": "print a shell's completion script: bash, zsh or tcsh",
}
"""Each name, which is also that of its module, with a line for `--help`."""

RESUMABLE: Collection[str] = ("run", "train", "validate")
"""Commands that resume after an interrupt."""

_EPILOG = """exit codes: 0 done, 1 unexpected error, 2 bad input, 3 study mismatch, 4 storage,
            5 finished with failed trials or without a rule, 130 interrupted

completion: eval "$(scalesearch completion bash)" in ~/.bashrc, or the same with zsh in ~/.zshrc"""


class Command(Protocol):
    """What the module of a command must provide."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments to `parser`."""

    def main(self, arguments: argparse.Namespace) -> int:
        """Carry out the command and return its exit code."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr, with exit code 2. A flag's name must be whole."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        sys.stderr.write(f"{self.prog}: error: {shortened(message)}\n")
        raise SystemExit(2)


def load_command(name: str) -> Command:
    """The module of a command."""
    return cast("Command", importlib.import_module(f"scalesearch.cli.{name}"))


def build_parser(names: Collection[str] = tuple(COMMANDS), load: Callable[[str], Command] = load_command) -> Parser:
    """The parser of all commands, with the arguments of those in `names`: only their modules are imported."""
    parser = Parser(
        prog="scalesearch",
        description="Find how to split a budget between a network's depth, width and resolution.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scalesearch {__version__}")
    _add_common(parser, default=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name in names:
            load(name).add_arguments(command)
            _add_common(command, default=argparse.SUPPRESS)  # one before the command keeps its value
    return parser


def _add_common(parser: argparse.ArgumentParser, default: bool | str) -> None:
    """The flags that may stand before or after the command."""
    verbosity = parser.add_mutually_exclusive_group()
    verbosity.add_argument(
        "-q", "--quiet", action="store_true", default=default, help="print only errors and the result"
    )
    verbosity.add_argument(
        "-v", "--verbose", action="store_true", default=default, help="print more notes: files, caches, devices"
    )
    parser.add_argument(
        "--debug", action="store_true", default=default, help="show the traceback of an unexpected error"
    )


def command_in(words: Sequence[str]) -> str | None:
    """The command among the words of a command line: the first that is not a flag; None if it is not a command."""
    first = next((word for word in words if not word.startswith("-")), None)
    return first if first in COMMANDS else None


def joined_values(words: Sequence[str]) -> list[str]:
    """`words` as argparse needs them: it takes a φ below 0 (`--phi -1:1`) for a flag unless `=` joins the two.

    >>> joined_values(["scale", "run", "--phi", "-1:1"])
    ['scale', 'run', '--phi=-1:1']
    """
    joined = list(words)
    for index, word in enumerate(joined[:-1]):
        if word == "--phi" and re.match(r"-[\d.]", joined[index + 1]):
            joined[index : index + 2] = [f"--phi={joined[index + 1]}"]
            break
    return joined
