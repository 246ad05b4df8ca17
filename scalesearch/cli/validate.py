"""The command validate: the rule against its rivals on the test split, at a φ that it was not fitted on."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from scalesearch.cli.arguments import add_json, add_storage, count, phi_list, storage_of
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the members of its family, and how often each network trains."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--phi", type=phi_list, default="2", metavar="PHI", help="2, 2,3 or 1:3 (default 2)")
    seeds = "trainings of each network; five or more are recommended (default: the study's)"
    parser.add_argument("--seeds", type=count, metavar="N", help=seeds)
    parser.add_argument(
        "--test", metavar="SOURCE", help="test images, instead of the study's (folder:DIR, npz:FILE, …)"
    )
    add_storage(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Validate the rule and show the comparison. Exit code 5 if a network failed."""
    from scalesearch.report import terminal
    from scalesearch.report.progress import Progress
    from scalesearch.search.events import Event, SearchEnded
    from scalesearch.search.validate import validate

    failed = 0
    with contextlib.nullcontext() if arguments.quiet else Progress() as progress:

        def on_event(event: Event) -> None:
            nonlocal failed
            if isinstance(event, SearchEnded):
                failed += event.failed
            if progress is not None:
                progress(event)

        run = validate(
            arguments.folder,
            arguments.phi,
            seeds=arguments.seeds,
            test=arguments.test,
            storage=storage_of(arguments),
            events=on_event,
        )
    if arguments.json:
        print_json([one.to_json() for one in run.validations])
    else:
        terminal.show_validations(run.validations, run.study.metric)
    return 5 if failed else 0
