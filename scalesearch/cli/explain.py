"""The command explain: φ, what it multiplies, and what that really costs. It answers at once."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from scalesearch.baselines.efficientnet import PAPER, PAPER_BASELINE, Published, published, published_sentences
from scalesearch.baselines.published import baseline
from scalesearch.cli.scaling import print_json, read_rule, warn_of
from scalesearch.errors import InputError
from scalesearch.report.terminal import console, multipliers, network, quantity, table
from scalesearch.scaling.coefficients import shares_of
from scalesearch.scaling.compound import Baseline
from scalesearch.scaling.explain import Explained
from scalesearch.scaling.explain import explain as explain_family
from scalesearch.scaling.family import parse_phis
from scalesearch.scaling.simplex import Shares


def explain(arguments: argparse.Namespace) -> int:
    """Print a family's nominal and real cost, what rounding does between them, and for B0 the published family."""
    papers = baseline(PAPER_BASELINE)
    own, coefficients, wide = papers, PAPER, ("blocks asked, got", "pixels asked, got")
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
    letters = ", ".join(f"{name} = {value}" for name, value in multipliers(coefficients).items())
    out = console()
    out.print(f"[bold]{own.name}, {letters}[/]", soft_wrap=True)
    out.print(table([_member_row(one) for one in explained.members], out.width, ("macs",)))
    out.print("\n[bold]Between nominal and real cost[/]: what each factor multiplies, and what was rounded")
    out.print(table([_factors_row(own, one) for one in explained.members], out.width, wide))
    if known:
        out.print(
            f"\n[bold]The published {known[0].name} to {known[-1].name}[/]: the φ that each multiplier is of the "
            "paper's α, β, γ; and what these give at the φ of the same nominal cost",
            soft_wrap=True,
        )
        out.print(table(_published_rows(known), out.width, ("macs", "φ cost", "α^φ", "β^φ", "γ^φ px")))
    for paragraph in told:
        out.print(f"\n{' '.join(paragraph)}")
    return 0


def _member_row(one: Explained) -> dict[str, str]:
    return {
        "φ": f"{one.member.phi:g}",
        **{f"{name}^φ": value for name, value in multipliers(one.member.coefficients).items()},
        "nominal": f"{one.nominal:.4g}×",
        "real cost": f"{one.member.macs_ratio:.4g}×",
        "macs": quantity(one.member.complexity.macs),
        "network": network(one.member.spec),
    }


def _factors_row(own: Baseline, one: Explained) -> dict[str, str]:
    asked, spec = one.member.coefficients, one.member.spec
    return {
        "φ": f"{one.member.phi:g}",
        "real ÷ nominal": f"{one.off:.3f}",
        "= stem, head": f"{one.formula:.3f}",
        "· blocks": f"{one.depth:.3f}",
        "· widths": f"{one.width:.3f}",
        "· pixels": f"{one.resolution:.3f}",
        "blocks asked, got": f"{asked.alpha * sum(own.spec.depths):.1f}, {sum(spec.depths)}",
        "pixels asked, got": f"{asked.gamma * own.spec.resolution:.1f}, {spec.resolution}",
    }


def _published_rows(family: Sequence[Published]) -> list[dict[str, str]]:
    """A row each, and the shares of the paper's α, β, γ below them."""
    pixels = baseline(PAPER_BASELINE).spec.resolution
    rows = []
    for one in family:
        even = PAPER**one.even
        rows.append(
            {
                "": one.name,
                "depth ×": f"{one.coefficients.alpha:g}",
                "width ×": f"{one.coefficients.beta:g}",
                "pixels": f"{one.pixels}",
                **{f"φ {name}": f"{phi:.2f}" for name, phi in zip(("depth", "width", "pixels"), one.phi, strict=True)},
                "φ cost": f"{one.even:.2f}",
                "α^φ": f"{even.alpha:.2f}",
                "β^φ": f"{even.beta:.2f}",
                "γ^φ px": f"{even.gamma * pixels:.0f}",
                "real cost": f"{one.macs_ratio:.4g}×",
                "macs": quantity(one.complexity.macs),
                "shares d, w, r": _shares(one.shares),
            }
        )
    return [*rows, {**dict.fromkeys(rows[0], ""), "": "αβγ", "shares d, w, r": _shares(shares_of(PAPER))}]


def _shares(shares: Shares) -> str:
    return ", ".join(f"{share:.2f}" for share in shares.values)
