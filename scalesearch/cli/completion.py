"""The command completion: a script that completes the names of commands, flags and values in a shell."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=SHELLS, help='in ~/.bashrc: eval "$(scalesearch completion bash)"')


def main(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from scalesearch.baselines.published import NAMES
    from scalesearch.cli.arguments import folder
    from scalesearch.cli.commands import build_parser
    from scalesearch.study.load import shipped_studies

    parser = build_parser()
    for action in (action for command in _commands(parser) for action in command._actions):
        if action.type in (Path, folder):
            # shtab's attribute, which argparse's type does not have
            action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]
        elif action.dest == "baseline":
            action.choices = NAMES
        elif action.dest == "study":
            action.choices = shipped_studies()
    sys.stdout.write(shtab.complete(parser, shell=arguments.shell))
    return 0


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return list(subparsers.choices.values())
