"""What a rounding policy can reach: the distinct depth vectors, width vectors and resolutions that may pay off.

Each axis is enumerated from the multipliers where one of its rounded values changes, so none is missed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Rounding, round_depths, round_widths, scale, spread_depth
from scalesearch.scaling.cost.budgeted import MACS, Cost
from scalesearch.scaling.cost.count import FloatArray, areas, count, tabulate
from scalesearch.scaling.cost.tally import IntArray

# Depth vectors and resolutions that are listed, at most; and multipliers at which a width changes, each of which takes
# three times as long. More would take minutes and gigabytes.
MOST_LISTED = 2_000_000
MOST_WIDTHS = 500_000


@dataclass(frozen=True, slots=True)
class Axes:
    """Depth vectors (D, n), width vectors (W, n + 2) and resolutions (R), the baseline's first, rising.

    `alpha` (D), `beta` (W) and `gamma` (R) are multipliers of at least 1 that round to them.
    """

    alpha: FloatArray
    depths: IntArray
    beta: FloatArray
    widths: IntArray
    gamma: FloatArray
    resolutions: IntArray

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, W, R)."""
        return (len(self.depths), len(self.widths), len(self.resolutions))

    def take(self, depths: IntArray, widths: IntArray, resolutions: IntArray) -> Axes:
        """The rows at these indices (or where these masks are true)."""
        return Axes(
            self.alpha[depths],
            self.depths[depths],
            self.beta[widths],
            self.widths[widths],
            self.gamma[resolutions],
            self.resolutions[resolutions],
        )


def reachable(baseline: ArchitectureSpec, rounding: Rounding, highest: float, cost: Cost = MACS) -> Axes:
    """Everything that is part of a network whose cost is at most `highest`, with no realised coefficient below 1.

    Raises `InputError` if there is too much to list, before listing it, and if nothing is left to scale.
    """
    rounding.check(baseline)
    one_depth = np.array([baseline.depths], np.int64)
    one_area = areas(baseline, np.array([baseline.resolution], np.int64))

    bound = _first(lambda m: cost.of(scale(baseline, Coefficients(1, m, 1), rounding)), highest)
    beta, widths = _widths(baseline, rounding, bound)
    table = cost.table(tabulate(baseline, widths))
    affordable = count(table, one_depth, one_area)[0, :, 0] <= highest
    beta, widths = beta[affordable], widths[affordable]
    # Only a row that narrows a stage can be cheaper than that of the baseline.
    lean = (widths < widths[0]).any(axis=1)
    lean[0] = True
    cheapest = table[affordable][lean]

    # Every policy gives each stage that it scales at least ⌊α · depth⌋ blocks: a bound that grows with α, as `balanced`
    # need not.
    def least_blocks(alpha: float) -> float:
        blocks = np.array([baseline.depths], np.int64)
        deepened = blocks[:, rounding.deepened]
        blocks[:, rounding.deepened] = np.maximum(1, np.floor(alpha * deepened))
        return float(count(cheapest, blocks, one_area).min())

    alpha, depths = _depths(baseline, rounding, _first(least_blocks, highest))
    affordable = count(cheapest, depths, one_area).min(axis=(1, 2)) <= highest
    alpha, depths = alpha[affordable], depths[affordable]

    def least_area(gamma: float) -> float:
        size = np.array([math.floor(gamma * baseline.resolution)], np.int64)
        return float(count(cheapest, one_depth, areas(baseline, size)).min())

    resolutions = _resolutions(baseline, rounding, _first(least_area, highest))
    affordable = count(cheapest, one_depth, areas(baseline, resolutions)).min(axis=(0, 1)) <= highest
    resolutions = resolutions[affordable]
    return Axes(alpha, depths, beta, widths, resolutions / baseline.resolution, resolutions)


def first_steps(
    baseline: ArchitectureSpec, rounding: Rounding
) -> tuple[ArchitectureSpec | None, ArchitectureSpec | None, ArchitectureSpec | None]:
    """The least networks that grow depth alone, width alone and resolution alone; None where nothing can grow.

    A resolution whose maps are those of the baseline in every layer is not growth.
    """
    depths, widths = _depths(baseline, rounding, 1.25)[1], _widths(baseline, rounding, 1)[1]
    resolutions = _resolutions(baseline, rounding, 2)
    area = areas(baseline, resolutions)
    wider = widths[np.log(widths[:, 1:-1] / np.array(baseline.widths[1:-1])).mean(axis=1) > 1e-12]
    larger = resolutions[(area != area[:, :1]).any(axis=0)]
    return (
        baseline.with_sizes(tuple(depths[1].tolist()), baseline.widths, baseline.resolution)
        if len(depths) > 1
        else None,
        baseline.with_sizes(baseline.depths, tuple(wider[0].tolist()), baseline.resolution) if len(wider) else None,
        baseline.with_sizes(baseline.depths, baseline.widths, int(larger[0])) if len(larger) else None,
    )


def _first(cost: Callable[[float], float], highest: float) -> float:
    """A multiplier above 1 whose cost is above `highest`."""
    bound = 1.25
    while cost(bound) <= highest:
        bound *= 1.25
    return bound


def _midpoints(breakpoints: set[float]) -> list[float]:
    """1, and one multiplier between each two neighbours of `breakpoints`, all of which are above 1."""
    edges = [1.0, *sorted(breakpoints)]
    return [1.0, *((low + high) / 2 for low, high in itertools.pairwise(edges) if high - low > 1e-9)]


def _distinct(multipliers: list[float], rows: list[tuple[int, ...]]) -> tuple[FloatArray, IntArray]:
    """Distinct rows, each with the first multiplier that gives it, in the order of the multipliers."""
    first = dict(zip(reversed(rows), reversed(multipliers), strict=True))
    kept = sorted(first, key=lambda row: first[row])
    return np.array([first[row] for row in kept]), np.array(kept, np.int64)


def _depths(baseline: ArchitectureSpec, rounding: Rounding, bound: float) -> tuple[FloatArray, IntArray]:
    """Multipliers (D,) and the blocks of every stage (D, n) that each gives; stages of fixed depth keep theirs."""
    alpha, deepened = _deepened(baseline.depths[rounding.deepened], rounding, bound)
    depths = np.repeat(np.array([baseline.depths], np.int64), len(deepened), axis=0)
    depths[:, rounding.deepened] = deepened
    return alpha, depths


def _deepened(baseline: tuple[int, ...], rounding: Rounding, bound: float) -> tuple[FloatArray, IntArray]:
    total = sum(baseline)
    _refuse_long_list(bound * total, MOST_LISTED, "numbers of blocks", f"a baseline of {total:,} blocks", "")
    if rounding.depth == "balanced":
        totals = range(total, math.ceil(bound * total) + 1)
        return _distinct([t / total for t in totals], [spread_depth(baseline, t) for t in totals])
    shift = 0.0 if rounding.depth == "ceil" else 0.5
    breakpoints = {
        (blocks + shift) / depth
        for depth in set(baseline)
        for blocks in range(depth, math.ceil(bound * depth) + 2)
        if (blocks + shift) / depth > 1
    }
    multipliers = _midpoints(breakpoints)
    return _distinct(multipliers, [round_depths(baseline, m, rounding.depth) for m in multipliers])


def _widths(baseline: ArchitectureSpec, rounding: Rounding, bound: float) -> tuple[FloatArray, IntArray]:
    divisor, widest = rounding.width_divisor, max(baseline.widths)
    listed = sum(2 * bound * width / divisor for width in set(baseline.widths))
    way_out = f", or raise `width_divisor` above {divisor}"
    _refuse_long_list(listed, MOST_WIDTHS, "widths", f"a baseline of up to {widest:,} channels", way_out)
    breakpoints: set[float] = set()
    for width in set(baseline.widths) - {0}:
        for rounded in range(0, math.ceil(bound * width) + 2 * divisor, divisor):
            breakpoints.update(((rounded - divisor / 2) / width, rounded / (0.9 * width)))
    breakpoints = {point for point in breakpoints if point > 1}
    # Rounding to the nearest multiple begins at its breakpoint, the rule of nine tenths ends just behind one. Where two
    # of them meet, the breakpoint itself rounds to a row that neither side has.
    multipliers = [*_midpoints(breakpoints), *sorted(breakpoints)]
    beta, widths = _distinct(multipliers, [round_widths(baseline.widths, m, rounding) for m in multipliers])
    grown = np.log(widths[:, 1:-1] / np.array(baseline.widths[1:-1])).mean(axis=1) >= -1e-12
    return beta[grown], widths[grown]


def _resolutions(baseline: ArchitectureSpec, rounding: Rounding, bound: float) -> IntArray:
    step, pixels = rounding.resolution_step, baseline.resolution
    way_out = f", or raise `resolution_step` above {step}"
    _refuse_long_list(bound * pixels / step, MOST_LISTED, "resolutions", f"a baseline of {pixels:,} pixels", way_out)
    first = (baseline.resolution // step + 1) * step
    return np.array([baseline.resolution, *range(first, math.ceil(bound * baseline.resolution) + step, step)])


def _refuse_long_list(count: float, most: int, what: str, baseline: str, way_out: str) -> None:
    """Raises `InputError` if `count` values would be listed, more than `most`."""
    if count > most:
        raise InputError(
            f"`budget` must leave at most {most:,} {what} to choose from, but {baseline} leaves some {count:,.0f}: "
            f"take a smaller baseline or budget{way_out}"
        )


def with_distinct_maps(baseline: ArchitectureSpec, resolutions: IntArray) -> NDArray[np.bool_]:
    """Mask (R,): of rising `resolutions` with the same maps in every layer, the largest, which shows most.

    If the baseline's resolution is among them, it stays instead: what has not grown must not look grown.
    """
    area, baseline_area = areas(baseline, resolutions), areas(baseline, np.array([baseline.resolution]))
    kept = np.append((area[:, 1:] != area[:, :-1]).any(axis=0), True)
    return np.asarray(kept & (area != baseline_area).any(axis=0) | (resolutions == baseline.resolution))
