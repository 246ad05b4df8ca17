"""The command status: how far a run is, and what its workers do."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from scalesearch.cli.arguments import add_storage, number, shared_storage_of, storage_of
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, where it is stored, and how to show it."""
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="the run folder")
    add_storage(parser)
    name = "the study's name in the storage, of a study without a run folder"
    parser.add_argument("--study-name", metavar="NAME", help=name)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print JSON, and nothing else, on stdout")
    watch = "show it again every so many seconds (default 2), until the study is finished or Ctrl-C"
    shown.add_argument("--watch", type=_pause, nargs="?", const=2.0, metavar="SECONDS", help=watch)


def main(arguments: argparse.Namespace) -> int:
    """Print how many trials are done, the workers, the leaders, and whether the splits differ beyond noise."""
    from scalesearch.errors import InputError
    from scalesearch.results.live import LiveRun, open_run, open_shared

    if (arguments.folder is None) == (arguments.study_name is None):
        raise InputError("status takes a run folder, or --study-name and --storage: one of both")
    if arguments.folder is None:
        run = LiveRun(*open_shared(shared_storage_of(arguments), arguments.study_name))
    else:
        run = LiveRun(*open_run(arguments.folder, storage_of(arguments)))
    if arguments.watch:
        from scalesearch.report.watching import watch_status

        watch_status(lambda: (run.look(), run.activity()), arguments.watch)
        return 0
    outcome, activity = run.look(), run.activity()
    if arguments.json:
        print_json({**outcome.status(), **activity.to_json()})
    else:
        from scalesearch.report.terminal import show_status

        show_status(outcome, activity)
    return 0


def _pause(text: str) -> float:
    """Seconds between two looks."""
    try:
        value = number(text)
    except argparse.ArgumentTypeError:
        value = math.nan
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"must be 0.1 to 3600 seconds, behind DIR, but got {text!r}")
    return value
