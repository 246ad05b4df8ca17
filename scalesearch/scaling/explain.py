"""Why a family does not cost what its formula says, factor by factor; and why B1 to B7 are not α^φ, β^φ, γ^φ."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalesearch.scaling.baselines import Baseline, baseline
from scalesearch.scaling.coefficients import Coefficients, shares_of
from scalesearch.scaling.complexity import Complexity, FloatArray, areas, complexity, count, tabulate
from scalesearch.scaling.compound import round_widths, scale
from scalesearch.scaling.family import FamilyMember, members
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

# Below it a difference of two logarithms is that of floating point.
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Explained:
    """A member φ and its real macs ratio as a product: `nominal` · `formula` · `depth` · `width` · `resolution`.

    `nominal` is (α·β²·γ²)^φ. `formula` is what the network would cost in fractions of blocks, channels and pixels,
    over `nominal`: the stem, the head and the first block of a stage do not grow as α·β²·γ². The other three are
    what rounding depth, then width, then resolution multiplies that cost by.
    """

    member: FamilyMember
    nominal: float
    formula: float
    depth: float
    width: float
    resolution: float

    @property
    def off(self) -> float:
        """Real ÷ nominal cost."""
        return self.member.macs_ratio / self.nominal

    @property
    def factors(self) -> dict[str, float]:
        """The four factors of real ÷ nominal, by name."""
        return {name: getattr(self, name) for name in ("formula", "depth", "width", "resolution")}

    def to_json(self) -> dict[str, Any]:
        """An entry of the `explain` command's `family`: that of `scale`, `nominal` and the factors."""
        return {**self.member.to_json(), "nominal": self.nominal, "factors": self.factors}


def explain(own: Baseline, coefficients: Coefficients, phis: Sequence[float]) -> tuple[Explained, ...]:
    """Each member φ of the family with what makes its cost another than nominal. Raises as `family.members`."""
    return tuple(_explained(own, coefficients, member) for member in members(own, coefficients, phis))


def _explained(own: Baseline, coefficients: Coefficients, member: FamilyMember) -> Explained:
    cost = _cost_by_what_is_rounded(own, member)
    steps = [cost[0, 0, 0], cost[1, 0, 0], cost[1, 1, 0], cost[1, 1, 1]]
    depth, width, resolution = (float(after / before) for before, after in itertools.pairwise(steps))
    nominal = coefficients.product**member.phi
    base_macs = member.complexity.macs / member.macs_ratio
    return Explained(member, nominal, float(steps[0]) / base_macs / nominal, depth, width, resolution)


def _cost_by_what_is_rounded(own: Baseline, member: FamilyMember) -> FloatArray:
    """Macs (2, 2, 2) of a member: [depth rounded?, width rounded?, resolution rounded?], 0 for no and 1 for yes.

    Macs are linear in depths and areas, and quadratic in the multiplier of all widths, which three whole
    multiples fix; fractions of a block, channel or pixel cost what those polynomials say.
    """
    spec, beta = own.spec, member.coefficients.beta
    head = own.rounding.head if own.rounding.head != "grows" else "scaled" if beta > 1 else "fixed"
    exact = dataclasses.replace(own.rounding, width_divisor=1, head=head)
    widths = np.array([*(round_widths(spec.widths, times, exact) for times in (1, 2, 3)), member.spec.widths])
    depths = np.array([np.multiply(spec.depths, member.coefficients.alpha), member.spec.depths])
    area = areas(spec, np.array([spec.resolution, member.spec.resolution])).astype(float)
    area[:-1, 0] *= member.coefficients.gamma**2  # the last level is the pooled vector
    macs = count(tabulate(spec, widths).macs, depths, area)
    lagrange = np.array([(beta - 2) * (beta - 3) / 2, -(beta - 1) * (beta - 3), (beta - 1) * (beta - 2) / 2])
    return np.stack([np.einsum("w,dwr->dr", lagrange, macs[:, :3]), macs[:, 3]], axis=1)


@dataclass(frozen=True, slots=True)
class Published:
    """A published EfficientNet: its own multipliers, its exact cost, and the φ that each is of the paper's α, β, γ.

    `phi` is by depth, width and resolution: ln depth ÷ ln α, ln width ÷ ln β, ln resolution ÷ ln γ. `even` is the
    one φ whose nominal cost is that of the multipliers, `shares` how their growth is split.
    """

    name: str
    coefficients: Coefficients
    pixels: int
    complexity: Complexity
    macs_ratio: float
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
            "macs_ratio": self.macs_ratio,
            "phi": dict(zip(("depth", "width", "resolution"), self.phi, strict=True)),
            "even_phi": self.even,
            "shares": dataclasses.asdict(self.shares),
        }


def published() -> tuple[Published, ...]:
    """EfficientNet-B1 to B7 beside the paper's α, β, γ. Source: as at `_PUBLISHED`."""
    own = baseline(PAPER_BASELINE)
    base_macs = complexity(own.spec).macs
    found = []
    for name, (depth, width, pixels) in _PUBLISHED.items():
        grown = Coefficients(depth, width, pixels / own.spec.resolution)
        cost = complexity(scale(own.spec, grown, own.rounding))
        phi = (
            math.log(grown.alpha) / math.log(PAPER.alpha),
            math.log(grown.beta) / math.log(PAPER.beta),
            math.log(grown.gamma) / math.log(PAPER.gamma),
        )
        even = math.log(grown.product) / math.log(PAPER.product)
        found.append(Published(name, grown, pixels, cost, cost.macs / base_macs, phi, even, shares_of(grown)))
    return tuple(found)


def sentences(own: Baseline, coefficients: Coefficients, family: Sequence[Explained]) -> tuple[str, ...]:
    """What the members' numbers say, in plain words."""
    product = f"{coefficients.product:.4g}"
    expected = f"α·β²·γ² is {product}: a step of φ should cost {product} times the macs."
    worst = max(family, key=lambda one: abs(math.log(one.off)))
    member, last = worst.member, family[-1]
    if abs(math.log(worst.off)) <= _NOTHING:
        return (expected, "It does.")
    blocks = f"{sum(member.spec.depths)} of them, where {member.coefficients.alpha * sum(own.spec.depths):.1f}"
    told = (
        expected,
        (
            f"φ = {member.phi:g} is furthest from that: it costs {member.macs_ratio:.4g} times the baseline's, "
            f"{worst.off:.3f} times the nominal {worst.nominal:.4g}. Whole blocks multiply that by {worst.depth:.3f} "
            f"({blocks} were asked for), whole widths by {worst.width:.3f}, whole pixels by {worst.resolution:.3f}; "
            f"the stem, the head and the first blocks, which do not grow as α·β²·γ², by {worst.formula:.3f}."
        ),
    )
    return told if last is worst else (*told, f"At φ = {last.member.phi:g} real ÷ nominal cost is {last.off:.3f}.")


def published_sentences(family: Sequence[Published]) -> tuple[str, ...]:
    """Why the published EfficientNets are not α^φ, β^φ, γ^φ, in plain words."""
    apart = sorted(family, key=lambda one: max(one.phi) - min(one.phi))
    widest, last, own = apart[-1], family[-1], apart[-1].coefficients
    by_depth, by_width, by_resolution = widest.phi
    others = (by_width + by_resolution) / 2
    (member,) = members(baseline(PAPER_BASELINE), PAPER, (len(family),))
    split = ", ".join(
        f"{name} {its:.0%} instead of {asked:.0%}"
        for name, its, asked in zip(Shares.__slots__, last.shares.values, shares_of(PAPER).values, strict=True)
    )
    return (
        (
            f"{family[0].name} to {last.name} are not α^φ, β^φ, γ^φ, for depth, width and resolution are not of one φ: "
            f"{apart[0].name} comes nearest ({', '.join(f'{phi:.2f}' for phi in apart[0].phi)}), but {widest.name} has "
            f"depth ×{own.alpha:g}, which is φ = {by_depth:.2f}, width ×{own.beta:g}, which is φ = {by_width:.2f}, and "
            f"{widest.pixels} pixels, which are φ = {by_resolution:.2f}."
        ),
        (
            f"Rounding to a tenth does not explain that: at φ = {others:.2f}, the mean of the others, depth would be "
            f"×{PAPER.alpha**others:.1f}; for ×{own.alpha:g}, α would have to be {own.alpha ** (1 / others):.3f}."
        ),
        f"{last.name} splits its growth otherwise: {split}.",
        (
            "Nor is φ the number in the name: nominally they cost what φ = "
            f"{', '.join(f'{one.even:.2f}' for one in family)} does."
        ),
        (
            f"{last.name} really costs {last.macs_ratio:.1f} times B0; "
            f"φ = {len(family)} of α, β, γ would cost {member.macs_ratio:.1f} times."
        ),
    )
