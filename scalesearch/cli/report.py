"""The command report: tables, rule and report of the trials so far."""

from __future__ import annotations

import argparse
from pathlib import Path

from scalesearch.cli.arguments import add_json, add_storage
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run and where it is stored."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run folder")
    add_storage(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the files of the run and print the result. Exit code 5 if trials failed, or if there is no rule."""
    from scalesearch.errors import InputError
    from scalesearch.report import terminal
    from scalesearch.results.load import load
    from scalesearch.results.save import finish

    run = load(arguments.folder, arguments.storage)
    try:
        finish(run, arguments.storage)
    except OSError as error:
        raise InputError(f"{arguments.folder}: cannot be written ({error.strerror})") from None
    if arguments.json:
        print_json(run.to_json())
    else:
        terminal.show_result(run, run.files())
    return 5 if run.failed or run.is_fruitless else 0
