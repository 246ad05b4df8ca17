"""The command scale: the family that a rule gives, at its real cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from scalesearch.cli.arguments import add_json, add_members, count
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The rule, the members of its family, and how they are found."""
    parser.add_argument("rule", type=Path, metavar="COEFFICIENTS.json", help="or the run folder that holds it")
    add_members(parser, "0:3")
    most = "the largest resolution; depth and width take over the growth that it takes from resolution"
    parser.add_argument("--max-resolution", type=count, metavar="PIXELS", help=most)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print each member's multipliers, network, exact cost, and what its training takes."""
    from scalesearch.cli.caveats import say_caveats
    from scalesearch.errors import InputError
    from scalesearch.export.rule_json import read_rule
    from scalesearch.scaling.family import check_max_resolution, cost_note, family, tolerance_of

    if arguments.nominal and arguments.max_resolution is not None:
        raise InputError("--max-resolution: not with --nominal, which rounds each multiplier by itself")
    rule = read_rule(arguments.rule)
    tolerance = arguments.tolerance or tolerance_of(rule)
    try:
        check_max_resolution(rule.baseline, arguments.max_resolution)
    except ValueError as error:
        raise InputError(f"--max-resolution: {error}") from None
    try:
        members = family(
            rule,
            arguments.phi,
            nominal=arguments.nominal,
            tolerance=tolerance,
            max_resolution=arguments.max_resolution,
        )
    except ValueError as error:
        raise InputError(f"--phi: {error}") from None
    say_caveats(rule, quiet=arguments.quiet)
    if arguments.json:
        print_json({"family": [member.to_json() for member in members]})
    else:
        from scalesearch.report import terminal

        terminal.show_family(members, "" if arguments.nominal else cost_note(members, tolerance))
    return 0
