"""The command validate: the rule against its rivals on the test split, at a φ that it was not fitted on."""

from __future__ import annotations

import argparse
from pathlib import Path

from scalesearch.cli.arguments import add_json, add_storage, count, phi_list


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the levels φ and the seeds."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--phi", type=phi_list, default="2", metavar="PHI", help="2, 2,3 or 1:3 (default 2)")
    seeds = "trainings of each network; five or more tell most (default: the study's)"
    parser.add_argument("--seeds", type=count, metavar="N", help=seeds)
    add_storage(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Validate, and show the comparison."""
    from scalesearch.cli.search import validate

    return validate(arguments)
