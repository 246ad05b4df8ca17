"""The command explain: φ, what it multiplies, and what that really costs. It answers at once."""

from __future__ import annotations

import argparse
import dataclasses

from scalesearch.baselines.efficientnet import PAPER, PAPER_BASELINE, published, published_sentences
from scalesearch.baselines.published import baseline
from scalesearch.cli.scaling import print_json, read_rule, warn_of
from scalesearch.errors import InputError
from scalesearch.report.terminal import show_explanation
from scalesearch.scaling.explain import explain as explain_family
from scalesearch.scaling.family import parse_phis


def explain(arguments: argparse.Namespace) -> int:
    """Print a family's nominal and real cost, what rounding does between them, and for B0 the published family."""
    papers = baseline(PAPER_BASELINE)
    own, coefficients = papers, PAPER
    if arguments.rule is not None:
        rule = read_rule(arguments.rule)
        warn_of(rule)
        own, coefficients = rule.baseline, rule.coefficients
    try:
        explained = explain_family(own, coefficients, parse_phis(arguments.phi))
    except ValueError as error:
        raise InputError(f"--phi: {error}") from None
    known = published() if own.spec == papers.spec else ()
    told = [explained.sentences, *([published_sentences(known)] if known else [])]
    if arguments.json:
        print_json(
            {
                "baseline": own.name,
                **dataclasses.asdict(coefficients),
                "product": coefficients.product,
                "family": [one.to_json() for one in explained.members],
                "published": [one.to_json() for one in known],
                "told": [sentence for paragraph in told for sentence in paragraph],
            }
        )
        return 0
    show_explanation(explained, known, told)
    return 0
