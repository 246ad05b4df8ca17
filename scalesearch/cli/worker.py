"""The command worker: joins a study from any machine."""

from __future__ import annotations

import argparse

from scalesearch.cli.arguments import add_patience, core_list, seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, where its data are here, and what may be spent."""
    parser.add_argument("--storage", required=True, metavar="URL", help="the URL that `run` or `init` was given")
    parser.add_argument("--study-name", required=True, metavar="NAME", help="the study's name in the storage")
    data = "where this machine holds the data (default: as the study says)"
    parser.add_argument("--data", metavar="SOURCE", help=data)
    parser.add_argument(
        "--time", type=seconds, metavar="T", help="time limit: start no trial that would exceed it (90s, 30m, 2h)"
    )
    add_patience(parser)
    parser.add_argument("--cores", type=core_list, metavar="LIST", help="keep to these processor cores (0,1)")


def main(arguments: argparse.Namespace) -> int:
    """Trains trials of the study until none is left."""
    from scalesearch.search.engine import join

    join(
        arguments.storage,
        arguments.study_name,
        source=arguments.data,
        cores=arguments.cores or (),
        seconds=arguments.time,
        patience=arguments.patience,
        events=(lambda event: None) if arguments.quiet else None,
    )
    return 0
