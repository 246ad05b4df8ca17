"""The command init: makes a study that workers of many machines join."""

from __future__ import annotations

import argparse
import shlex
import sys

from scalesearch.cli.arguments import add_storage, shared_storage_of
from scalesearch.cli.study_flags import add_study_flags, study_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a study, and where it is stored."""
    add_study_flags(parser)
    add_storage(parser, "storage that all machines share")
    parser.add_argument("--study-name", metavar="NAME", help="name in the storage (default: the study file's)")


def main(arguments: argparse.Namespace) -> int:
    """Make the stored study, queue its trials, and say how to join it."""
    from scalesearch.search.engine import init

    study = init(study_from(arguments), storage=shared_storage_of(arguments))
    name = shlex.quote(study.name)
    storage = " --storage URL" if arguments.storage else ""  # else the variable says where
    sys.stdout.write(
        f"{study.name}: ready for workers\n"
        f"on each machine: scalesearch worker{storage} --study-name {name}\n"
        f"what waits and runs: scalesearch status{storage} --study-name {name}\n"
        "for the result: scalesearch run, with the flags of this command and --out DIR\n"
    )
    return 0
