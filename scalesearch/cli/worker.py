"""The command worker: joins a study from any machine."""

from __future__ import annotations

import argparse

from scalesearch.cli.arguments import add_patience, add_storage, core_list, seconds, shared_storage_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, where its data are here, and what may be spent."""
    add_storage(parser, "where `run` or `init` put the study")
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
        shared_storage_of(arguments),
        arguments.study_name,
        source=arguments.data,
        cores=arguments.cores or (),
        seconds=arguments.time,
        patience=arguments.patience,
        events=(lambda event: None) if arguments.quiet else None,
    )
    return 0
