"""Compound scaling: multipliers and a rounding policy turn a baseline into an integer network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec, without_defaults
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.stage import require_choice, require_whole

DepthRounding = Literal["ceil", "round", "balanced"]
StemRounding = Literal["scaled", "fixed"]
HeadRounding = Literal["scaled", "fixed", "grows"]
EndRounding = Literal["scaled", "fixed"]

# Absorbs what floating point adds to a product that is a whole number (1.1 · 10 = 11.000000000000002).
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Rounding:
    """How multipliers become whole numbers.

    Widths are rounded to multiples of `width_divisor`, never below nine tenths of the exact width.
    A width or a resolution that shrinks never becomes larger than the baseline's, which may be off these grids.
    Depths: `ceil` and `round` treat each stage alone; `balanced` rounds the total number of blocks and
    spreads it over the stages by largest remainder. Resolutions are multiples of `resolution_step`.
    `stem` and `head` say whether their widths are scaled; a head that `grows` is scaled above 1 only.
    `first_last_depth` and `first_last_width` say whether the first and the last stage are scaled (EfficientNet-Lite
    keeps their depths: tensorflow/tpu efficientnet_model.py, fix_head_stem).
    """

    width_divisor: int
    depth: DepthRounding
    resolution_step: int
    stem: StemRounding
    head: HeadRounding
    first_last_depth: EndRounding = "scaled"
    first_last_width: EndRounding = "scaled"

    def __post_init__(self) -> None:
        for name in ("width_divisor", "resolution_step"):
            require_whole(name, getattr(self, name), 1)
        for name, allowed in (("depth", DepthRounding), ("stem", StemRounding), ("head", HeadRounding)):
            require_choice(name, getattr(self, name), get_args(allowed))
        for name in ("first_last_depth", "first_last_width"):
            require_choice(name, getattr(self, name), get_args(EndRounding))

    @property
    def deepened(self) -> slice:
        """The stages whose depths are scaled."""
        return _scaled_stages(self.first_last_depth)

    @property
    def widened(self) -> slice:
        """The stages whose widths are scaled."""
        return _scaled_stages(self.first_last_width)

    def check(self, spec: ArchitectureSpec) -> None:
        """Raises `InputError` if nothing of `spec` is left to scale."""
        for name in ("first_last_depth", "first_last_width"):
            if getattr(self, name) == "fixed" and len(spec.stages) < 3:
                raise InputError(
                    f'`{name}` = "fixed" needs a baseline of at least 3 stages, but got {len(spec.stages)}'
                )

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the contract; what the first and the last stage do appears unless they are scaled."""
        return without_defaults(self)


def _scaled_stages(ends: EndRounding) -> slice:
    return slice(1, -1) if ends == "fixed" else slice(None)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A named network at φ = 0 and the rounding that scales it. Raises `InputError` if it leaves nothing to scale."""

    name: str
    spec: ArchitectureSpec
    rounding: Rounding

    def __post_init__(self) -> None:
        self.rounding.check(self.spec)


def round_width(width: float, divisor: int) -> int:
    """Nearest multiple of `divisor`, at least one, one more if that is below 0.9 · width.

    The released EfficientNet's and MobileNetV2's rule (tensorflow/tpu efficientnet_model.py, round_filters).
    """
    rounded = max(divisor, int(width + divisor / 2 + _SLACK) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width - _SLACK else rounded


def round_resolution(resolution: int, gamma: float, step: int) -> int:
    """Nearest multiple of `step` to `resolution` times `gamma`, at least one; a multiplier of 1 changes nothing.

    With a multiplier below 1 it is at most `resolution`, even if that is no multiple of `step`.
    """
    if gamma == 1:
        return resolution
    rounded = max(step, math.floor(resolution * gamma / step + 0.5 + _SLACK) * step)
    return rounded if gamma > 1 else min(rounded, resolution)


def round_depths(
    depths: tuple[int, ...], alpha: float, policy: DepthRounding, ends: EndRounding = "scaled"
) -> tuple[int, ...]:
    """Blocks of each stage after `depths` are multiplied by `alpha`, at least one per stage.

    With fixed `ends` the first and the last depth stay, and `policy` sees those between alone.
    """
    if ends == "fixed":
        return (depths[0], *round_depths(depths[1:-1], alpha, policy), depths[-1])
    if policy == "balanced":
        return spread_depth(depths, math.floor(alpha * sum(depths) + 0.5 + _SLACK))
    shift = 0.5 + _SLACK if policy == "round" else 1 - _SLACK
    return tuple(max(1, math.floor(alpha * depth + shift)) for depth in depths)


def spread_depth(depths: tuple[int, ...], total: int) -> tuple[int, ...]:
    """`total` blocks over the stages in proportion to `depths`, by largest remainder, at least one per stage.

    Equal remainders go to the earlier stage. Exact integer arithmetic; the sum is max(total, stages).
    """
    whole = sum(depths)
    total = max(total, len(depths))
    spread = [max(1, depth * total // whole) for depth in depths]
    # A stage that is due less than a block has one already: its remainder counts no more.
    due = [index for index, depth in enumerate(depths) if depth * total >= whole]
    order = sorted(due, key=lambda i: (-(depths[i] * total % whole), i))
    while sum(spread) < total:
        for index in order[: total - sum(spread)]:
            spread[index] += 1
    while sum(spread) > total:
        for index in reversed(order):
            if spread[index] > 1 and sum(spread) > total:
                spread[index] -= 1
    return tuple(spread)


def scale(baseline: ArchitectureSpec, coefficients: Coefficients, rounding: Rounding) -> ArchitectureSpec:
    """`baseline` with depth ×α, width ×β and resolution ×γ, rounded to whole numbers by `rounding`."""
    return baseline.with_sizes(
        round_depths(baseline.depths, coefficients.alpha, rounding.depth, rounding.first_last_depth),
        round_widths(baseline.widths, coefficients.beta, rounding),
        round_resolution(baseline.resolution, coefficients.gamma, rounding.resolution_step),
    )


def round_widths(widths: tuple[int, ...], beta: float, rounding: Rounding) -> tuple[int, ...]:
    """Stem, stage and head widths (as `ArchitectureSpec.widths`) times `beta`; a multiplier of 1 changes none.

    With a multiplier below 1 no width grows: one that is off the divisor's grid stays where rounding would raise it.
    """
    if beta == 1:
        return widths
    stem, *stages, head = widths

    def grown(width: int) -> int:
        rounded = round_width(beta * width, rounding.width_divisor)
        return rounded if beta > 1 else min(rounded, width)

    inner = rounding.widened
    stages[inner] = map(grown, stages[inner])
    scaled_head = head and (rounding.head == "scaled" or (rounding.head == "grows" and beta > 1))
    return (
        grown(stem) if rounding.stem == "scaled" else stem,
        *stages,
        grown(head) if scaled_head else head,
    )


def round_width_rows(widths: Sequence[int], multipliers: NDArray[np.float64], rounding: Rounding) -> NDArray[np.int64]:
    """`round_widths` for many `multipliers` (M,) of at least 1: rows (M, n + 2)."""
    divisor = rounding.width_divisor
    rows = np.repeat(np.array([widths], np.int64), len(multipliers), axis=0)
    inner = range(1, len(widths) - 1)[rounding.widened]
    stem, head = rounding.stem == "scaled", widths[-1] and rounding.head != "fixed"
    for place in (*([0] if stem else []), *inner, *([len(widths) - 1] if head else [])):
        exact = multipliers * widths[place]
        rounded = np.maximum(divisor, (exact + divisor / 2 + _SLACK).astype(np.int64) // divisor * divisor)
        rows[:, place] = np.where(rounded < 0.9 * exact - _SLACK, rounded + divisor, rounded)
    rows[multipliers == 1] = widths
    return rows


def round_depth_rows(
    depths: NDArray[np.int64], multipliers: NDArray[np.float64], policy: DepthRounding
) -> NDArray[np.int64]:
    """`round_depths` by `ceil` or `round`, with ends that are scaled, for many `multipliers` (M,): rows (M, n)."""
    shift = 0.5 + _SLACK if policy == "round" else 1 - _SLACK
    return np.maximum(1, np.floor(multipliers[:, None] * depths + shift).astype(np.int64))
