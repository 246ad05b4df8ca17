"""The family of a rule: the baseline scaled by (α^φ, β^φ, γ^φ), and the parsing of lists of φ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Baseline, round_widths, scale
from scalesearch.scaling.cost.budgeted import MACS, Cost
from scalesearch.scaling.cost.count import Complexity, complexity
from scalesearch.scaling.rule import ScalingRule

__all__ = ["Family", "FamilyMember", "ScalingRule", "family", "members", "off_grid_note", "parse_phis", "rounding_note"]

# Counts are exact as long as they are whole numbers in float64; an eighth is kept for rounding upwards.
LARGEST_COUNT = 2**50
MAX_PHIS = 1000
# The members that a run reports.
REPORTED_PHIS = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class FamilyMember:
    """The network of one φ, what it counts, and its cost as a multiple of the baseline's."""

    phi: float
    coefficients: Coefficients
    spec: ArchitectureSpec
    complexity: Complexity
    cost_ratio: float

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
        }


class Family(tuple[FamilyMember, ...]):
    """The members of a family, which a notebook displays as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Each φ and its cost, in a line."""
        costs = ", ".join(f"φ = {member.phi:g} costs {member.cost_ratio:.3f}×" for member in self)
        return f"<Family: {costs or 'no members'}>"


def family(rule: ScalingRule, phis: Iterable[float] | float) -> Family:
    """The members φ of the rule's family, one or several; see `members`."""
    return members(rule.baseline, rule.coefficients, phis)


def members(baseline: Baseline, coefficients: Coefficients, phis: Iterable[float] | float, cost: Cost = MACS) -> Family:
    """`baseline` scaled by (α^φ, β^φ, γ^φ) with its rounding, for coefficients whose product is above 1.

    φ = 0 is the baseline; a negative φ shrinks it, and nothing is then larger than in the baseline. Raises `ValueError`
    for a φ whose network would be smaller than one block, channel or pixel, or too large to be counted exactly.
    Source: arXiv:1905.11946 §3.3.
    """
    baseline_cost = cost.of(baseline.spec)
    several = phis if isinstance(phis, Iterable) else (phis,)
    return Family(_member(baseline, coefficients, phi, baseline_cost, cost) for phi in several)


def _member(baseline: Baseline, coefficients: Coefficients, phi: float, baseline_cost: int, cost: Cost) -> FamilyMember:
    spec = baseline.spec
    if not math.isfinite(phi):
        raise ValueError(f"`phi` must be a finite number, but got {phi!r}")
    largest = (math.log(LARGEST_COUNT) - math.log(baseline_cost)) / math.log(coefficients.product)
    if phi > largest:
        raise ValueError(f"`phi` must be at most {largest:.4g}, above which {cost.name} are not exact, but got {phi:g}")
    multipliers = dataclasses.astuple(coefficients)
    sizes = zip((sum(spec.depths), max(spec.widths), spec.resolution), multipliers, strict=True)
    smallest = max(-math.log(size) / math.log(grown) for size, grown in sizes if grown > 1)
    if phi < smallest:
        raise ValueError(
            f"`phi` must be at least {smallest:.4g}, below which no block, channel or pixel is left, but got {phi:g}"
        )
    grown = coefficients**phi
    scaled = scale(spec, grown, baseline.rounding)
    counted = complexity(scaled)
    return FamilyMember(phi, grown, scaled, counted, cost.amount(counted) / baseline_cost)


def rounding_note(rule: ScalingRule) -> str:
    """What a step of φ costs by the rule, and what the member φ = 1 costs once it is rounded."""
    (member,) = family(rule, (1,))
    return (
        f"A step of φ costs {rule.budget:g} times as much before rounding; "
        f"in whole blocks, widths and pixels φ = 1 costs {member.cost_ratio:.3f} times the baseline."
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


def parse_phis(text: str) -> tuple[float, ...]:
    """The φ of a list of numbers and ranges: `0:7` is 0, 1, … 7, `0:2:0.5` has steps of 0.5, `0,1,2.5` lists.

    Raises `ValueError` for anything else, and for more than `MAX_PHIS` of them.
    """
    phis = tuple(phi for item in text.split(",") for phi in _range(item, text))
    if len(phis) > MAX_PHIS:
        raise ValueError(f"`phi` must name at most {MAX_PHIS} members, but {text!r} names {len(phis)}")
    return phis


def _range(item: str, text: str) -> tuple[float, ...]:
    def wrong(why: str) -> NoReturn:
        raise ValueError(f"`phi` must be numbers or ranges such as 3, 0:7, 0:2:0.5 or 0,1,2.5, but got {text!r}: {why}")

    try:
        numbers = [float(part) for part in item.split(":")]
    except ValueError:
        wrong(f"{item.strip()!r} is not a number or a range")
    if not all(map(math.isfinite, numbers)):
        wrong("not finite")
    if len(numbers) == 1:
        return (numbers[0],)
    if len(numbers) > 3:
        wrong("a range is start:stop or start:stop:step")
    start, stop, step = (*numbers, 1.0)[:3]
    if step <= 0 or stop < start:
        wrong("a range goes upwards by a step above 0")
    # The slack keeps a stop that the steps reach only up to rounding (0:0.3:0.1).
    count = (stop - start) / step + 1 + 1e-9
    if count > MAX_PHIS + 1:
        wrong(f"at most {MAX_PHIS} members")
    return tuple(round(start + index * step, 12) for index in range(math.floor(count)))
