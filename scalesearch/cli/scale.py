"""The command scale: the family that a rule gives."""

from __future__ import annotations

import argparse
from pathlib import Path

from scalesearch.cli.arguments import add_json, phi_list
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The rule and the members of its family."""
    parser.add_argument("rule", type=Path, metavar="COEFFICIENTS.json", help="or the run folder that holds it")
    phi = "2, 0,1,2.5 or 0:7 (both included; default 0:3)"
    parser.add_argument("--phi", type=phi_list, default="0:3", metavar="PHI", help=phi)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print each member's multipliers, network and exact cost."""
    from scalesearch.cli.caveats import say_caveats
    from scalesearch.errors import InputError
    from scalesearch.export.rule_json import read_rule
    from scalesearch.scaling.family import family

    rule = read_rule(arguments.rule)
    try:
        members = family(rule, arguments.phi)
    except ValueError as error:
        raise InputError(f"--phi: {error}") from None
    say_caveats(rule)
    if arguments.json:
        print_json({"family": [member.to_json() for member in members]})
    else:
        from scalesearch.report import terminal

        terminal.show_family(members)
    return 0
