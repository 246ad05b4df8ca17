"""The command explain: φ, what it multiplies, and what that really costs."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from scalesearch.baselines.efficientnet import PAPER, PAPER_BASELINE, Published, published, published_sentences
from scalesearch.baselines.published import baseline
from scalesearch.cli.arguments import add_json, phi_list
from scalesearch.cli.output import print_json
from scalesearch.cli.rule_file import read_rule, say_caveats
from scalesearch.errors import InputError
from scalesearch.report.terminal import console, multipliers, network, quantity, table
from scalesearch.scaling.coefficients import shares_of
from scalesearch.scaling.compound import Baseline
from scalesearch.scaling.explain import Explained, explain
from scalesearch.scaling.simplex import Shares

# Columns that a narrow terminal leaves out.
_WIDE_ONLY = ("blocks asked, got", "pixels asked, got")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The rule and the members of its family."""
    rule = "or a run folder (default: the paper's 1.2, 1.1, 1.15)"
    parser.add_argument("rule", type=Path, nargs="?", metavar="COEFFICIENTS.json", help=rule)
    phi = "2, 0,1,2.5 or 0:7 (both included; default 0:7)"
    parser.add_argument("--phi", type=phi_list, default="0:7", metavar="PHI", help=phi)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print a family's nominal and real cost, what rounding does between them, and for B0 the published family."""
    # The family: that of the rule, or of the paper.
    paper_baseline = baseline(PAPER_BASELINE)
    base, coefficients = paper_baseline, PAPER
    if arguments.rule is not None:
        rule = read_rule(arguments.rule)
        say_caveats(rule)
        base, coefficients = rule.baseline, rule.coefficients
    try:
        explained = explain(base, coefficients, arguments.phi)
    except ValueError as error:
        raise InputError(f"--phi: {error}") from None
    known = published() if base.spec == paper_baseline.spec else ()
    paragraphs = [explained.sentences, *([published_sentences(known)] if known else [])]

    if arguments.json:
        print_json(
            {
                "baseline": base.name,
                **dataclasses.asdict(coefficients),
                "product": coefficients.product,
                "family": [member.to_json() for member in explained.members],
                "published": [member.to_json() for member in known],
                "told": [sentence for paragraph in paragraphs for sentence in paragraph],
            }
        )
        return 0

    # Two tables of the family, one of the published networks, then the sentences.
    letters = ", ".join(f"{name} = {value}" for name, value in multipliers(coefficients).items())
    out = console()
    out.print(f"[bold]{base.name}, {letters}[/]", soft_wrap=True)
    out.print(table([_member_row(member) for member in explained.members], out.width, ("macs",)))
    out.print("\n[bold]Between nominal and real cost[/]: what each factor multiplies, and what was rounded")
    out.print(table([_factors_row(base, member) for member in explained.members], out.width, _WIDE_ONLY))
    if known:
        out.print(
            f"\n[bold]The published {known[0].name} to {known[-1].name}[/]: the φ that each multiplier is of the "
            "paper's α, β, γ; and what these give at the φ of the same nominal cost",
            soft_wrap=True,
        )
        out.print(table(_published_rows(known), out.width, ("macs", "φ cost", "α^φ", "β^φ", "γ^φ px")))
    for paragraph in paragraphs:
        out.print(f"\n{' '.join(paragraph)}")
    return 0


def _member_row(explained: Explained) -> dict[str, str]:
    member = explained.member
    return {
        "φ": f"{member.phi:g}",
        **{f"{name}^φ": value for name, value in multipliers(member.coefficients).items()},
        "nominal": f"{explained.nominal:.4g}×",
        "real cost": f"{member.macs_ratio:.4g}×",
        "macs": quantity(member.complexity.macs),
        "network": network(member.spec),
    }


def _factors_row(base: Baseline, explained: Explained) -> dict[str, str]:
    nominal, spec = explained.member.coefficients, explained.member.spec
    return {
        "φ": f"{explained.member.phi:g}",
        "real ÷ nominal": f"{explained.off:.3f}",
        "= stem, head": f"{explained.formula:.3f}",
        "· blocks": f"{explained.depth:.3f}",
        "· widths": f"{explained.width:.3f}",
        "· pixels": f"{explained.resolution:.3f}",
        "blocks asked, got": f"{nominal.alpha * sum(base.spec.depths):.1f}, {sum(spec.depths)}",
        "pixels asked, got": f"{nominal.gamma * base.spec.resolution:.1f}, {spec.resolution}",
    }


def _published_rows(family: Sequence[Published]) -> list[dict[str, str]]:
    """A row each, and the shares of the paper's α, β, γ below them."""
    pixels = baseline(PAPER_BASELINE).spec.resolution
    rows = []
    for member in family:
        even = PAPER**member.even
        rows.append(
            {
                "": member.name,
                "depth ×": f"{member.coefficients.alpha:g}",
                "width ×": f"{member.coefficients.beta:g}",
                "pixels": f"{member.pixels}",
                **{
                    f"φ {name}": f"{phi:.2f}"
                    for name, phi in zip(("depth", "width", "pixels"), member.phi, strict=True)
                },
                "φ cost": f"{member.even:.2f}",
                "α^φ": f"{even.alpha:.2f}",
                "β^φ": f"{even.beta:.2f}",
                "γ^φ px": f"{even.gamma * pixels:.0f}",
                "real cost": f"{member.macs_ratio:.4g}×",
                "macs": quantity(member.complexity.macs),
                "shares d, w, r": _shares(member.shares),
            }
        )
    return [*rows, {**dict.fromkeys(rows[0], ""), "": "αβγ", "shares d, w, r": _shares(shares_of(PAPER))}]


def _shares(shares: Shares) -> str:
    return ", ".join(f"{share:.2f}" for share in shares.values)
