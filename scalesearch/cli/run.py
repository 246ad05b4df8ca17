"""The command run: the whole search."""

from __future__ import annotations

import argparse
from pathlib import Path

from scalesearch.cli.arguments import add_json, count, seconds
from scalesearch.cli.study_flags import add_study_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a study, where it is stored, and what may be spent."""
    add_study_flags(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/NAME of the study)")
    parser.add_argument("--workers", type=count, metavar="N", help="processes that train (default: the study's)")
    storage = "SQLAlchemy URL that many machines share (default: DIR/study.db)"
    parser.add_argument("--storage", metavar="URL", help=storage)
    parser.add_argument("--study-name", metavar="NAME", help="name in the storage (default: the study file's)")
    parser.add_argument("--time", type=seconds, metavar="T", help="begin no trial that would end later (90s, 30m, 2h)")
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Search, and show the result."""
    from scalesearch.cli.search import run

    return run(arguments)
