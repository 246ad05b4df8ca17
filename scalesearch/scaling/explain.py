"""What lies between the cost that a family's formula says and its real cost, factor by factor."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalesearch.runtime.text import percent
from scalesearch.scaling.coefficients import Coefficients, shares_of
from scalesearch.scaling.compound import Baseline, round_widths
from scalesearch.scaling.cost.budgeted import MACS
from scalesearch.scaling.cost.count import FloatArray, areas, count, tabulate
from scalesearch.scaling.family import DEFAULT_TOLERANCE, FamilyMember, cost_note, members, nominal_members

FACTORS = ("formula", "depth", "width", "resolution")
# Differences of two logarithms below it are rounding errors.
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Explained:
    """A member φ and its real cost ratio as a product: `nominal` · `formula` · `depth` · `width` · `resolution`.

    `nominal` is (α·β²·γ²)^φ. `formula` is what (α^φ, β^φ, γ^φ) would cost in fractions of blocks, channels and pixels,
    over `nominal`: the stem, the head and the first block of a stage do not grow as α·β²·γ². The other three are
    the factors by which the member's blocks, then its widths, then its pixels multiply that cost.
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
        return self.member.cost_ratio / self.nominal

    @property
    def factors(self) -> dict[str, float]:
        """The four factors of real ÷ nominal, by name."""
        return {name: getattr(self, name) for name in FACTORS}

    def to_json(self) -> dict[str, Any]:
        """An entry of the `explain` command's `family`: that of `scale`, `nominal` and the factors."""
        return {**self.member.to_json(), "nominal": self.nominal, "factors": self.factors}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The members of a family, each with the factors between its nominal and its real cost.

    `rounded` are the members that rounding each multiplier by itself would give.
    """

    baseline: Baseline
    coefficients: Coefficients
    members: tuple[Explained, ...]
    rounded: tuple[FamilyMember, ...]
    tolerance: float

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the members' numbers say, in plain words."""
        product = f"{self.coefficients.product:.4g}"
        expected = f"α·β²·γ² is {product}: a step of φ should cost {product} times as much."
        if any(one.member.spec != other.spec for one, other in zip(self.members, self.rounded, strict=True)):
            return (expected, *self._sentences_on_real_cost())
        worst, last = max(self.members, key=lambda one: abs(math.log(one.off))), self.members[-1]
        if abs(math.log(worst.off)) <= _NOTHING:
            steps = any(one.member.phi for one in self.members)
            return (expected, "It does.") if steps else (expected,)
        sentences: tuple[str, ...] = (expected, *_sentences_of(worst, sum(self.baseline.spec.depths)))
        if last is not worst:
            sentences += (f"At φ = {last.member.phi:g} real ÷ nominal cost is {last.off:.3f}.",)
        return sentences

    def _sentences_on_real_cost(self) -> tuple[str, ...]:
        """Whether the members cost what they should, and what their multipliers would, each rounded by itself."""
        note = cost_note((one.member for one in self.members), self.tolerance)
        worst = max(self.rounded, key=lambda one: abs(math.log(one.cost_ratio / one.coefficients.product)))
        off = worst.cost_ratio / worst.coefficients.product
        apart = f"{percent(abs(off - 1))} {'more' if off > 1 else 'less'}"
        return (
            note,
            (
                f"Each multiplier rounded by itself would cost up to {apart}: {worst.cost_ratio:.4g} times the "
                f"baseline's at φ = {worst.phi:g}."
            ),
        )


def _sentences_of(one: Explained, blocks: int) -> tuple[str, str]:
    """How far off a member's cost is, and why; `blocks` is the number of blocks of the baseline."""
    member = one.member
    asked, got = member.coefficients.alpha * blocks, sum(member.spec.depths)
    off = (
        f"φ = {member.phi:g} is furthest from that: {member.cost_ratio:.4g} times the baseline's, which is "
        f"{one.off:.3f} times the nominal {one.nominal:.4g}."
    )
    factors = (
        f"Whole blocks multiply that by {one.depth:.3f} ({got} of them, where {asked:.1f} were asked for), "
        f"whole widths by {one.width:.3f}, whole pixels by {one.resolution:.3f}; the stem, the head and the first "
        f"blocks, which do not grow as α·β²·γ², by {one.formula:.3f}."
    )
    return off, factors


def explain(
    baseline: Baseline,
    coefficients: Coefficients,
    phis: Iterable[float] | float,
    *,
    nominal: bool = False,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Explanation:
    """The family of `coefficients` explained, or with `nominal` their rounded powers. Raises as `family.members`."""
    found = (
        nominal_members(baseline, coefficients, phis, tolerance)
        if nominal
        else members(baseline, shares_of(coefficients), coefficients.product, phis, tolerance)
    )
    return explain_members(baseline, coefficients, found, tolerance)


def explain_members(
    baseline: Baseline, coefficients: Coefficients, found: Sequence[FamilyMember], tolerance: float = DEFAULT_TOLERANCE
) -> Explanation:
    """The explanation of the members that were `found` for a rule of `baseline` and `coefficients`."""
    rounded = nominal_members(baseline, coefficients, [member.phi for member in found], tolerance)
    explained = tuple(_explained(baseline, coefficients, member) for member in found)
    return Explanation(baseline, coefficients, explained, rounded, tolerance)


def _explained(baseline: Baseline, coefficients: Coefficients, member: FamilyMember) -> Explained:
    cost = _costs_by_rounding(baseline, member)
    steps = [cost[0, 0, 0], cost[1, 0, 0], cost[1, 1, 0], cost[1, 1, 1]]
    depth, width, resolution = (float(after / before) for before, after in itertools.pairwise(steps))
    nominal = coefficients.product**member.phi
    baseline_cost = MACS.amount(member.complexity) / member.cost_ratio
    return Explained(member, nominal, float(steps[0]) / baseline_cost / nominal, depth, width, resolution)


def _costs_by_rounding(baseline: Baseline, member: FamilyMember) -> FloatArray:
    """Macs (2, 2, 2) of a member: [depth rounded?, width rounded?, resolution rounded?], 0 for no and 1 for yes.

    Macs are linear in depths and areas, and quadratic in the multiplier of all widths, which three whole
    multiples fix; fractions of a block, channel or pixel cost what those polynomials say.
    """
    spec, beta = baseline.spec, member.coefficients.beta
    head = baseline.rounding.head if baseline.rounding.head != "grows" else "scaled" if beta > 1 else "fixed"
    exact = dataclasses.replace(baseline.rounding, width_divisor=1, head=head)
    widths = np.array([*(round_widths(spec.widths, times, exact) for times in (1, 2, 3)), member.spec.widths])
    depths = np.array([spec.depths, member.spec.depths], float)
    depths[0, baseline.rounding.deepened] *= member.coefficients.alpha
    area = areas(spec, np.array([spec.resolution, member.spec.resolution])).astype(float)
    area[:-1, 0] *= member.coefficients.gamma**2  # the last level is the pooled vector
    macs = count(MACS.table(tabulate(spec, widths)), depths, area)
    lagrange = np.array([(beta - 2) * (beta - 3) / 2, -(beta - 1) * (beta - 3), (beta - 1) * (beta - 2) / 2])
    return np.stack([np.einsum("w,dwr->dr", lagrange, macs[:, :3]), macs[:, 3]], axis=1)
