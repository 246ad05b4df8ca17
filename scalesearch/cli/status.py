"""The command status: how far a run is."""

from __future__ import annotations

import argparse
from pathlib import Path

from scalesearch.cli.arguments import add_json, add_storage, storage_of
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run and where it is stored."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run folder")
    add_storage(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print how many trials are done, the leaders, and whether the splits differ beyond noise."""
    from scalesearch.report import terminal
    from scalesearch.results.load import load

    run = load(arguments.folder, storage_of(arguments))
    if arguments.json:
        print_json(run.status())
    else:
        terminal.show_status(run)
    return 0
