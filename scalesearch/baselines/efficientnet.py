"""EfficientNet's coefficients and its published family, and why B1 to B7 are not α^φ, β^φ, γ^φ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scalesearch.baselines.published import baseline
from scalesearch.runtime.text import percent
from scalesearch.scaling.coefficients import Coefficients, shares_of
from scalesearch.scaling.compound import scale
from scalesearch.scaling.cost.count import Complexity, complexity
from scalesearch.scaling.family import nominal_members
from scalesearch.scaling.simplex import Shares

# arXiv:1905.11946 §4: "a small grid search", whose best product is not quite 2.
PAPER = Coefficients(1.2, 1.1, 1.15)
PAPER_BASELINE = "efficientnet-b0"
# Depth ×, width ×, pixels, as released: tensorflow/tpu models/official/efficientnet/efficientnet_builder.py.
_PUBLISHED = {
    "B1": (1.1, 1.0, 240),
    "B2": (1.2, 1.1, 260),
    "B3": (1.4, 1.2, 300),
    "B4": (1.8, 1.4, 380),
    "B5": (2.2, 1.6, 456),
    "B6": (2.6, 1.8, 528),
    "B7": (3.1, 2.0, 600),
}


@dataclass(frozen=True, slots=True)
class Published:
    """A published EfficientNet: its multipliers, its exact cost, and the φ that gives each from the paper's α, β, γ.

    `phi` is by depth, width and resolution: ln depth ÷ ln α, ln width ÷ ln β, ln resolution ÷ ln γ. `even` is the
    one φ whose nominal cost is that of the multipliers, `shares` how their growth is split.
    """

    name: str
    coefficients: Coefficients
    pixels: int
    complexity: Complexity
    cost_ratio: float
    phi: tuple[float, float, float]
    even: float
    shares: Shares

    def to_json(self) -> dict[str, Any]:
        """An entry of the `explain` command's `published`."""
        return {
            "name": self.name,
            **dataclasses.asdict(self.coefficients),
            "resolution": self.pixels,
            **dataclasses.asdict(self.complexity),
            "macs_ratio": self.cost_ratio,
            "phi": dict(zip(("depth", "width", "resolution"), self.phi, strict=True)),
            "even_phi": self.even,
            "shares": dataclasses.asdict(self.shares),
        }


def published() -> tuple[Published, ...]:
    """EfficientNet-B1 to B7 with their distance from the paper's α, β, γ. Source: see `_PUBLISHED`."""
    b0 = baseline(PAPER_BASELINE)
    base_macs = complexity(b0.spec).macs
    family = []
    for name, (depth, width, pixels) in _PUBLISHED.items():
        grown = Coefficients(depth, width, pixels / b0.spec.resolution)
        cost = complexity(scale(b0.spec, grown, b0.rounding))
        phi = (
            math.log(grown.alpha) / math.log(PAPER.alpha),
            math.log(grown.beta) / math.log(PAPER.beta),
            math.log(grown.gamma) / math.log(PAPER.gamma),
        )
        even = math.log(grown.product) / math.log(PAPER.product)
        family.append(Published(name, grown, pixels, cost, cost.macs / base_macs, phi, even, shares_of(grown)))
    return tuple(family)


def published_sentences(family: Sequence[Published]) -> tuple[str, ...]:
    """Why the published EfficientNets are not α^φ, β^φ, γ^φ, in plain words."""
    by_spread = sorted(family, key=lambda one: max(one.phi) - min(one.phi))
    closest, widest, last = by_spread[0], by_spread[-1], family[-1]
    alpha, beta = widest.coefficients.alpha, widest.coefficients.beta
    by_depth, by_width, by_resolution = widest.phi
    others = (by_width + by_resolution) / 2
    (member,) = nominal_members(baseline(PAPER_BASELINE), PAPER, (len(family),))
    split = ", ".join(
        f"{name} {percent(share, 2)} instead of {percent(paper_share, 2)}"
        for name, share, paper_share in zip(Shares.__slots__, last.shares.values, shares_of(PAPER).values, strict=True)
    )
    return (
        (
            f"{family[0].name} to {last.name} are not α^φ, β^φ, γ^φ, because depth, width and resolution do not share "
            f"one φ: {closest.name} comes closest ({', '.join(f'{phi:.2f}' for phi in closest.phi)}), but "
            f"{widest.name} has depth ×{alpha:g}, which is φ = {by_depth:.2f}, width ×{beta:g}, which is "
            f"φ = {by_width:.2f}, and {widest.pixels} pixels, which are φ = {by_resolution:.2f}."
        ),
        (
            f"Rounding to a tenth does not explain that: at φ = {others:.2f}, the mean of the others, depth would be "
            f"×{PAPER.alpha**others:.1f}; for ×{alpha:g}, α would have to be {alpha ** (1 / others):.3f}."
        ),
        f"{last.name} splits its growth differently: {split}.",
        (
            "Nor is the number in the name φ: their nominal costs are those of φ = "
            f"{', '.join(f'{one.even:.2f}' for one in family)}."
        ),
        (
            f"{last.name} really costs {last.cost_ratio:.1f} times B0; "
            f"φ = {len(family)} of α, β, γ would cost {member.cost_ratio:.1f} times."
        ),
    )
