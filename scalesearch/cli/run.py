"""The command run: the whole search."""

from __future__ import annotations

import argparse
import contextlib
import sys

from scalesearch.cli.arguments import add_json, add_patience, add_storage, count, folder, seconds, storage_of
from scalesearch.cli.output import print_json, say
from scalesearch.cli.study_flags import add_study_flags, study_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a study, where it is stored, and what may be spent."""
    add_study_flags(parser)
    parser.add_argument("--out", type=folder, metavar="DIR", help="run folder (default: runs/NAME of the study)")
    parser.add_argument("--workers", type=count, metavar="N", help="processes that train (default: the study's)")
    add_storage(parser, "storage that many machines share (default: DIR/study.db)")
    parser.add_argument("--study-name", metavar="NAME", help="name in the storage (default: the study file's)")
    parser.add_argument(
        "--time", type=seconds, metavar="T", help="time limit: start no trial that would exceed it (90s, 30m, 2h)"
    )
    add_patience(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Search, show the result, and say what is left.

    Exit code 5 if trials failed, if there is no rule, or if the time sufficed for no candidate.
    """
    from scalesearch.report import terminal
    from scalesearch.report.progress import Progress
    from scalesearch.runtime.text import plural
    from scalesearch.search.engine import search
    from scalesearch.search.events import Event, Planned, SearchEnded

    study, storage, missing = study_from(arguments), storage_of(arguments), 0
    with contextlib.nullcontext() if arguments.quiet else Progress() as progress:

        def on_event(event: Event) -> None:
            nonlocal missing
            if isinstance(event, Planned) and not (arguments.json or arguments.quiet):
                terminal.show_plan_head(event.parts, event.splits)
                sys.stdout.flush()
            if isinstance(event, SearchEnded):
                missing += event.missing
            if progress is not None:
                progress(event)

        run = search(
            study,
            arguments.out,
            storage=storage,
            seconds=arguments.time,
            patience=arguments.patience,
            events=on_event,
        )
    if arguments.json:
        print_json(run.to_json())
    else:
        terminal.show_result(run, run.files())
    if missing and arguments.time and not run.has_result:
        say(
            f"the time limit is reached before a candidate was trained, {plural(missing, 'trial')} left; "
            "run the same command again with more time"
        )
        return 5
    if missing and arguments.time:
        say(f"the time limit is reached, {plural(missing, 'trial')} left; run the same command again to continue")
    elif missing:
        say(
            f"{plural(missing, 'trial')} without a result because workers died repeatedly; "
            "run the same command again to retry them"
        )
        return 5
    return 5 if run.failed or run.is_fruitless else 0
