"""The command export: hands over the coefficients of a run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

FORMATS = ("json",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the format and the file to write."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--to", choices=FORMATS, default=FORMATS[0], help=f"format (default: {FORMATS[0]})")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to stdout")


def main(arguments: argparse.Namespace) -> int:
    """Print the rule of a run, or write it to a file."""
    from scalesearch.cli.caveats import say_caveats
    from scalesearch.errors import InputError
    from scalesearch.export.rule_json import read_rule, rule_text
    from scalesearch.runtime.files import write_text

    if not arguments.folder.is_dir():
        raise InputError(f"{arguments.folder}: no such run folder")
    rule = read_rule(arguments.folder)
    say_caveats(rule)
    text = rule_text(rule)
    if arguments.output is None:
        sys.stdout.write(text)
        return 0
    try:
        write_text(arguments.output, text)
    except OSError as error:
        raise InputError(f"--output {arguments.output}: cannot be written ({error.strerror})") from None
    if not arguments.quiet:
        sys.stderr.write(f"wrote {arguments.output}\n")
    return 0
