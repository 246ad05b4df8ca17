"""The command explain: φ, what it multiplies, and what that really costs."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from scalesearch.baselines.efficientnet import PAPER, PAPER_BASELINE, published, published_sentences
from scalesearch.baselines.published import baseline
from scalesearch.cli.arguments import add_json, add_members
from scalesearch.cli.caveats import say_caveats
from scalesearch.cli.output import print_json
from scalesearch.errors import InputError
from scalesearch.export.rule_json import read_rule
from scalesearch.report.terminal import show_explanation
from scalesearch.scaling.explain import explain, explain_members
from scalesearch.scaling.family import DEFAULT_TOLERANCE, family, tolerance_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The rule and the members of its family."""
    rule = "or a run folder (default: the paper's 1.2, 1.1, 1.15)"
    parser.add_argument("rule", type=Path, nargs="?", metavar="COEFFICIENTS.json", help=rule)
    add_members(parser, "0:7")
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print a family's nominal and real cost, what rounding does between them, and for B0 the published family."""
    # The family: that of the rule, or of the paper.
    paper_baseline = baseline(PAPER_BASELINE)
    base, nominal = paper_baseline, arguments.nominal
    try:
        if arguments.rule is None:
            tolerance = arguments.tolerance or DEFAULT_TOLERANCE
            explained = explain(base, PAPER, arguments.phi, nominal=nominal, tolerance=tolerance)
        else:
            rule = read_rule(arguments.rule)
            say_caveats(rule, quiet=arguments.quiet)
            base, tolerance = rule.baseline, arguments.tolerance or tolerance_of(rule)
            found = family(rule, arguments.phi, nominal=nominal, tolerance=tolerance)
            explained = explain_members(base, rule.coefficients, found, tolerance)
    except ValueError as error:
        raise InputError(f"--phi: {error}") from None
    known = published() if base.spec == paper_baseline.spec else ()
    paragraphs = [explained.sentences, *([published_sentences(known)] if known else [])]

    if arguments.json:
        print_json(
            {
                "baseline": base.name,
                **dataclasses.asdict(explained.coefficients),
                "product": explained.coefficients.product,
                "family": [member.to_json() for member in explained.members],
                "published": [member.to_json() for member in known],
                "told": [sentence for paragraph in paragraphs for sentence in paragraph],
            }
        )
        return 0

    show_explanation(explained, known, paragraphs)
    return 0
