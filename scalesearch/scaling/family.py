"""The family of a rule: for each φ the integer network that really costs B^φ and has the rule's shares of that cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scalesearch.errors import InputError
from scalesearch.runtime.text import enumerated
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients, coefficients_of
from scalesearch.scaling.compound import Baseline, round_widths, scale
from scalesearch.scaling.cost.budgeted import MACS, Cost
from scalesearch.scaling.cost.count import Complexity, complexity
from scalesearch.scaling.growth import grown, recipe, training_memory
from scalesearch.scaling.member import nearest_network
from scalesearch.scaling.rule import ScalingRule
from scalesearch.scaling.simplex import Shares
from scalesearch.scaling.split import split_cost

__all__ = [
    "DEFAULT_TOLERANCE", "Family", "FamilyMember", "ScalingRule", "check_max_resolution", "cost_note", "family",
    "members", "nominal_members", "off_grid_note", "tolerance_of",
]  # fmt: skip

DEFAULT_TOLERANCE = 0.02
"""Allowed deviation of a cost from what was asked for, as a fraction, if nobody says otherwise."""
# Counts are exact as long as they are whole numbers in float64; an eighth is kept for rounding upwards.
LARGEST_COUNT = 2**50
# The members that a run reports.
REPORTED_PHIS = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class FamilyMember:
    """The network of one φ, what it counts, and its cost as a multiple of the baseline's.

    Attributes:
        phi: φ.
        coefficients: (α^φ, β^φ, γ^φ), whose product is the cost that it should have.
        spec: the network.
        complexity: what it counts.
        cost_ratio: its cost ÷ the baseline's.
        shares: how depth, width and resolution share the logarithm of that ratio; equal for the baseline.
        within_tolerance: whether that ratio is the product of `coefficients` within the tolerance.
        memory: an estimate of the bytes that its training takes; None if the batch size is unknown.
        training: what of its training follows φ (`growth.recipe`); empty without a rule.
    """

    phi: float
    coefficients: Coefficients
    spec: ArchitectureSpec
    complexity: Complexity
    cost_ratio: float
    shares: Shares
    within_tolerance: bool
    memory: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """An entry of the `scale` command's `family`."""
        return {
            "phi": self.phi,
            **dataclasses.asdict(self.coefficients),
            "macs": self.complexity.macs,
            "macs_ratio": self.cost_ratio,
            "params": self.complexity.params,
            "activations": self.complexity.activations,
            "spec": self.spec.to_json(),
            "within_tolerance": self.within_tolerance,
            "shares": dataclasses.asdict(self.shares),
            "training_memory": self.memory,
            "training": dict(self.training),
        }


class Family(tuple[FamilyMember, ...]):
    """The members of a family, which a notebook displays as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Each φ and its cost, in a line."""
        costs = ", ".join(f"φ = {member.phi:g} costs {member.cost_ratio:.3f}×" for member in self)
        return f"<Family: {costs or 'no members'}>"


def family(
    rule: ScalingRule,
    phis: Iterable[float] | float,
    *,
    nominal: bool = False,
    tolerance: float | None = None,
    max_resolution: int | None = None,
) -> Family:
    """The members φ of the rule's family, one or several, with what their training takes.

    Args:
        rule: the rule.
        phis: φ, or several.
        nominal: whether to round each multiplier by itself, whatever that costs: `nominal_members`.
        tolerance: how far from B^φ a member's cost may be, as a fraction; None for that of the rule's study.
        max_resolution: see `members`; not for nominal members.
    """
    tolerance = tolerance_of(rule) if tolerance is None else tolerance
    found = (
        nominal_members(rule.baseline, rule.coefficients, phis, tolerance)
        if nominal
        else members(rule.baseline, rule.shares, rule.budget, phis, tolerance, max_resolution=max_resolution)
    )
    return Family(_trained(member, rule) for member in found)


def tolerance_of(rule: ScalingRule) -> float:
    """The tolerance of the study that the rule comes from; `DEFAULT_TOLERANCE` if the rule does not say."""
    fingerprint = rule.provenance.get("fingerprint")
    tolerance = fingerprint.get("tolerance") if isinstance(fingerprint, Mapping) else None
    return tolerance if isinstance(tolerance, float) and 0 < tolerance < 1 else DEFAULT_TOLERANCE


def _trained(member: FamilyMember, rule: ScalingRule) -> FamilyMember:
    batch_size, resolution = rule.training.get("batch_size"), member.spec.resolution
    values = grown(rule.training, member.phi, rule.budget, resolution / rule.baseline.spec.resolution)
    memory = training_memory(member.complexity, batch_size) if isinstance(batch_size, int) else None
    return dataclasses.replace(member, memory=memory, training=recipe(values, resolution))


def members(
    baseline: Baseline,
    shares: Shares,
    budget: float,
    phis: Iterable[float] | float,
    tolerance: float = DEFAULT_TOLERANCE,
    cost: Cost = MACS,
    max_resolution: int | None = None,
) -> Family:
    """The members φ of the family that spends a budget B by `shares`: networks that really cost B^φ.

    Each is the network within `tolerance` of B^φ whose shares of real cost lie nearest to `shares`
    (`member.nearest_network`): at φ = 1 the candidate that `feasible.FeasibleSet.nearest` gives. φ = 0 is the baseline.
    For φ above 0 nothing is smaller than in it, below 0 nothing is larger. A dimension with a share of 0 stays as it is
    if that leaves a network within the tolerance and near the shares. Where no network is within the tolerance, a
    member is the nearest in cost.

    Args:
        baseline: the network at φ = 0, and its rounding.
        shares: how the logarithm of cost is split. A corner gives the family that grows one dimension alone.
        budget: B, what a step of φ multiplies the cost by; above 1.
        phis: φ, or several.
        tolerance: how far from B^φ a cost may be, as a fraction.
        cost: what is counted.
        max_resolution: the largest resolution of members above 0. Depth and width take over the growth that it takes
            from resolution, in proportion to their shares.

    Raises:
        ValueError: for a φ whose network would be smaller than one block, channel or pixel, or too large to be counted
            exactly.
        InputError: for a `max_resolution` below the baseline's.

    >>> from scalesearch.baselines.published import baseline
    >>> members(baseline("efficientnet-b0"), Shares(0.3, 0.3, 0.4), 2, (0, 2, 4))
    <Family: φ = 0 costs 1.000×, φ = 2 costs 3.923×, φ = 4 costs 16.124×>
    """
    check_max_resolution(baseline, max_resolution)
    spec = baseline.spec
    coefficients, baseline_cost = coefficients_of(shares, budget), cost.of(spec)

    def member(phi: float) -> FamilyMember:
        _check(phi, baseline, coefficients, baseline_cost, cost)
        multiplied = coefficients**phi
        found = nearest_network(spec, baseline.rounding, shares, budget**phi, tolerance, cost, max_resolution)
        counted = complexity(found.spec)
        return FamilyMember(
            phi, multiplied, found.spec, counted, found.cost_ratio, found.shares, found.within_tolerance
        )

    return Family(map(member, _listed(phis)))


def nominal_members(
    baseline: Baseline,
    coefficients: Coefficients,
    phis: Iterable[float] | float,
    tolerance: float = DEFAULT_TOLERANCE,
    cost: Cost = MACS,
) -> Family:
    """`baseline` scaled by (α^φ, β^φ, γ^φ) and rounded, whatever that costs, for coefficients whose product is above 1.

    Raises `ValueError` as `members` does. Source: arXiv:1905.11946 §3.3.
    """
    spec, baseline_cost = baseline.spec, cost.of(baseline.spec)

    def member(phi: float) -> FamilyMember:
        _check(phi, baseline, coefficients, baseline_cost, cost)
        multiplied = coefficients**phi
        scaled = scale(spec, multiplied, baseline.rounding)
        counted = complexity(scaled)
        ratio = cost.amount(counted) / baseline_cost
        within = abs(ratio / multiplied.product - 1) <= tolerance
        return FamilyMember(phi, multiplied, scaled, counted, ratio, split_cost(spec, scaled, cost), within)

    return Family(map(member, _listed(phis)))


def check_max_resolution(baseline: Baseline, max_resolution: int | None) -> None:
    """Raises `InputError` for a `max_resolution` below that of the baseline."""
    least = baseline.spec.resolution
    if max_resolution is not None and max_resolution < least:
        raise InputError(
            f"`max_resolution` must be at least the baseline's resolution, {least}, but got {max_resolution}"
        )


def _listed(phis: Iterable[float] | float) -> Iterable[float]:
    return phis if isinstance(phis, Iterable) else (phis,)


def _check(phi: float, baseline: Baseline, coefficients: Coefficients, baseline_cost: int, cost: Cost) -> None:
    """Raises `ValueError` for a φ that is not finite, or whose network could not be counted or would be nothing."""
    spec = baseline.spec
    if not math.isfinite(phi):
        raise ValueError(f"`phi` must be a finite number, but got {phi!r}")
    largest = (math.log(LARGEST_COUNT) - math.log(baseline_cost)) / math.log(coefficients.product)
    if phi > largest:
        raise ValueError(f"`phi` must be at most {largest:.4g}, above which {cost.name} are not exact, but got {phi:g}")
    multipliers = dataclasses.astuple(coefficients)
    sizes = zip((sum(spec.depths), max(spec.widths), spec.resolution), multipliers, strict=True)
    smallest = max(-math.log(size) / math.log(multiplier) for size, multiplier in sizes if multiplier > 1)
    if phi < smallest:
        raise ValueError(
            f"`phi` must be at least {smallest:.4g}, below which no block, channel or pixel is left, but got {phi:g}"
        )


def cost_note(found: Iterable[FamilyMember], tolerance: float = DEFAULT_TOLERANCE) -> str:
    """Whether the members of a family cost what they should, and which do not; empty for the baseline alone."""
    allowed = f"{100 * tolerance:g} %"
    scaled = [member for member in found if member.phi]
    off = [
        f"φ = {one.phi:g} costs {one.cost_ratio:.5g}× instead of {one.coefficients.product:.5g}×"
        for one in scaled
        if not one.within_tolerance
    ]
    if not off:
        return f"Every member costs its nominal multiple of the baseline within {allowed}." if scaled else ""
    return (
        f"No network costs the nominal multiple of the baseline within {allowed} everywhere; these are the "
        f"nearest in cost: {enumerated(off)}."
    )


def off_grid_note(baseline: Baseline, cost: Cost = MACS) -> str:
    """Which scaled widths are no multiple of the divisor, and what the least growth costs; empty if all are.

    >>> from scalesearch.baselines.published import baseline
    >>> off_grid_note(baseline("efficientnet-b0"))
    ''
    """
    spec, divisor = baseline.spec, baseline.rounding.width_divisor
    doubled, least = (round_widths(spec.widths, beta, baseline.rounding) for beta in (2, 1 + 1e-6))
    names = ("stem", *(f"stage {number}" for number in range(1, len(spec.stages) + 1)), "head")
    scaled = [
        (name, width, grown)
        for name, width, twice, grown in zip(names, spec.widths, doubled, least, strict=True)
        if twice != width
    ]
    off = [(name, width, grown) for name, width, grown in scaled if width % divisor]
    if not off:
        return ""
    ratio = cost.of(spec.with_sizes(spec.depths, least, spec.resolution)) / cost.of(spec)
    return (
        f"Widths off the grid of `width_divisor` {divisor}: {', '.join(f'{name} {width}' for name, width, _ in off)}. "
        f"The least growth in width rounds {'it' if len(off) == 1 else 'them'} to "
        f"{', '.join(str(grown) for *_, grown in off)}, {ratio:.2f} times the cost; "
        f"`width_divisor` {math.gcd(*(width for _, width, _ in scaled))} has no such jump."
    )
