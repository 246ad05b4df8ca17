"""What a rounding policy can reach: the distinct depth vectors, width vectors and resolutions that may pay off.

Each axis is enumerated from the multipliers where one of its rounded values changes, so none is missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Rounding, round_depth_rows, round_width_rows, scale
from scalesearch.scaling.cost.budgeted import MACS, Cost
from scalesearch.scaling.cost.count import FloatArray, areas, count, tabulate
from scalesearch.scaling.cost.tally import IntArray

# What is listed at most: numbers (of the rows of an axis, in all their stages), depth vectors or resolutions, and
# multipliers at which a width changes, each of which gives three rows. More would take long and fill the memory.
MOST_NUMBERS = 16_000_000
MOST_LISTED = 2_000_000
MOST_WIDTHS = 500_000
# Numbers of a cost table, or costs, that are held at once (32 MB).
_CHUNK = 4_000_000
# Costs of depths by the cheapest rows of widths that are counted at most.
_MOST_COUNTED = 200_000_000


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
    affordable, cheapest = _affordable(baseline, widths, highest, cost)
    beta, widths = beta[affordable], widths[affordable]

    # Every policy gives each stage that it scales at least ⌊α · depth⌋ blocks: a bound that grows with α, as `balanced`
    # need not.
    def least_blocks(alpha: float) -> float:
        blocks = np.array([baseline.depths], np.int64)
        deepened = blocks[:, rounding.deepened]
        blocks[:, rounding.deepened] = np.maximum(1, np.floor(alpha * deepened))
        return float(count(cheapest, blocks, one_area).min())

    alpha, depths = _depths(baseline, rounding, _first(least_blocks, highest))
    if len(cheapest) * len(depths) > _MOST_COUNTED:
        raise InputError(
            f"`budget` leaves {len(depths):,} numbers of blocks with each of {len(cheapest):,} rows of widths, which "
            f"is too much to count: take a smaller baseline or budget, or another `width_divisor`"
        )
    rows = max(1, _CHUNK // (len(cheapest) * cheapest.shape[2]))
    starts = range(0, len(depths), rows)
    least = [count(cheapest, depths[start : start + rows], one_area).min(axis=(1, 2)) for start in starts]
    affordable = np.concatenate(least) <= highest
    alpha, depths = alpha[affordable], depths[affordable]

    def least_area(gamma: float) -> float:
        size = np.array([math.floor(gamma * baseline.resolution)], np.int64)
        return float(count(cheapest, one_depth, areas(baseline, size)).min())

    resolutions = _resolutions(baseline, rounding, _first(least_area, highest))
    affordable = count(cheapest, one_depth, areas(baseline, resolutions)).min(axis=(0, 1)) <= highest
    resolutions = resolutions[affordable]
    return Axes(alpha, depths, beta, widths, resolutions / baseline.resolution, resolutions)


def _affordable(
    baseline: ArchitectureSpec, widths: IntArray, highest: float, cost: Cost
) -> tuple[NDArray[np.bool_], IntArray]:
    """Which rows (W,) of widths cost at most `highest` with nothing else grown, and the cheapest of their tables.

    The cheapest are the baseline's and those that narrow a stage; only these can be cheaper than the baseline's.
    """
    one_depth = np.array([baseline.depths], np.int64)
    one_area = areas(baseline, np.array([baseline.resolution], np.int64))
    n = len(baseline.stages)
    rows = max(1, _CHUNK // ((n + 1) * (n + 3)))
    affordable, tables = [], list[IntArray]()
    for start in range(0, len(widths), rows):
        part = widths[start : start + rows]
        table = cost.table(tabulate(baseline, part))
        affordable.append(count(table, one_depth, one_area)[0, :, 0] <= highest)
        lean = (part < widths[0]).any(axis=1)
        if start == 0:
            lean[0] = True
        tables.append(table[affordable[-1] & lean])
        if start > 0:
            # Widths rise with the multiplier, so that the first lean row is usually below all others.
            first = tables[0][1:2] if len(tables[0]) > 1 else tables[0][:1]
            tables[-1] = tables[-1][(tables[-1] < first).any(axis=(1, 2))]
    cheapest = np.concatenate(tables)
    kept = (cheapest < cheapest[1]).any(axis=(1, 2)) if len(cheapest) > 1 else np.ones(len(cheapest), bool)
    kept[:2] = True
    return np.concatenate(affordable), cheapest[kept]


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


def _midpoints(breakpoints: FloatArray) -> FloatArray:
    """1, and one multiplier between each two neighbours of `breakpoints`, all of which are above 1."""
    edges = np.concatenate([[1.0], np.unique(breakpoints)])
    low, high = edges[:-1], edges[1:]
    return np.concatenate([[1.0], ((low + high) / 2)[high - low > 1e-9]])


def _distinct(multipliers: FloatArray, rows: IntArray) -> tuple[FloatArray, IntArray]:
    """Distinct `rows` (M, k), each with the first of the `multipliers` (M,) that gives it, in their order.

    Rows rise with their multipliers, so that equal ones are neighbours.
    """
    order = np.argsort(multipliers, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))
    first = np.minimum.reduceat(order, starts)
    sorted_again = np.argsort(multipliers[first], kind="stable")
    return multipliers[first][sorted_again], rows[starts][sorted_again]


def _depths(baseline: ArchitectureSpec, rounding: Rounding, bound: float) -> tuple[FloatArray, IntArray]:
    """Multipliers (D,) and the blocks of every stage (D, n) that each gives; stages of fixed depth keep theirs."""
    alpha, deepened = _deepened(baseline.depths[rounding.deepened], rounding, bound)
    depths = np.repeat(np.array([baseline.depths], np.int64), len(deepened), axis=0)
    depths[:, rounding.deepened] = deepened
    return alpha, depths


def _deepened(baseline: tuple[int, ...], rounding: Rounding, bound: float) -> tuple[FloatArray, IntArray]:
    total, depths = sum(baseline), np.array(baseline, np.int64)
    most = min(MOST_LISTED, MOST_NUMBERS // len(baseline))
    _refuse_long_list(bound * total, most, "numbers of blocks", f"a baseline of {total:,} blocks", "")
    if rounding.depth == "balanced":
        totals = np.arange(total, math.ceil(bound * total) + 1)
        rows = _CHUNK // len(depths)
        spread = [_spread(depths, totals[start : start + rows]) for start in range(0, len(totals), rows)]
        return totals / total, np.concatenate(spread)
    shift = 0.0 if rounding.depth == "ceil" else 0.5
    breakpoints = np.concatenate(
        [(np.arange(depth, math.ceil(bound * depth) + 2) + shift) / depth for depth in set(baseline)]
    )
    multipliers = _midpoints(breakpoints[breakpoints > 1])
    return _distinct(multipliers, round_depth_rows(depths, multipliers, rounding.depth))


def _spread(depths: IntArray, totals: IntArray) -> IntArray:
    """`compound.spread_depth` for many `totals` (T,), none below the sum of `depths` (n,): rows (T, n)."""
    whole = depths.sum()
    shares, remainders = np.divmod(totals[:, None] * depths, whole)
    # The stages with the largest remainders get one more; of equal ones the earlier.
    places = np.argsort(np.argsort(-remainders, axis=1, kind="stable"), axis=1, kind="stable")
    missing = totals - shares.sum(axis=1)
    return np.asarray(shares + (places < missing[:, None]))


def _widths(baseline: ArchitectureSpec, rounding: Rounding, bound: float) -> tuple[FloatArray, IntArray]:
    divisor, widest = rounding.width_divisor, max(baseline.widths)
    listed = sum(2 * bound * width / divisor for width in set(baseline.widths))
    way_out = f", or raise `width_divisor` above {divisor}"
    most = min(MOST_WIDTHS, MOST_NUMBERS // (3 * len(baseline.widths)))
    _refuse_long_list(listed, most, "widths", f"a baseline of up to {widest:,} channels", way_out)
    steps = [np.zeros(0)]
    for width in set(baseline.widths) - {0}:
        rounded = np.arange(0, math.ceil(bound * width) + 2 * divisor, divisor)
        steps += [(rounded - divisor / 2) / width, rounded / (0.9 * width)]
    breakpoints = np.unique(np.concatenate(steps))
    breakpoints = breakpoints[breakpoints > 1]
    # Rounding to the nearest multiple begins at its breakpoint, the rule of nine tenths ends just behind one. Where two
    # of them meet, the breakpoint itself rounds to a row that neither side has.
    multipliers = np.concatenate([_midpoints(breakpoints), breakpoints])
    beta, widths = _distinct(multipliers, round_width_rows(baseline.widths, multipliers, rounding))
    grown = np.log(widths[:, 1:-1] / np.array(baseline.widths[1:-1])).mean(axis=1) >= -1e-12
    return beta[grown], widths[grown]


def _resolutions(baseline: ArchitectureSpec, rounding: Rounding, bound: float) -> IntArray:
    step, pixels = rounding.resolution_step, baseline.resolution
    way_out = f", or raise `resolution_step` above {step}"
    most = min(MOST_LISTED, MOST_NUMBERS // len(baseline.stages))
    _refuse_long_list(bound * pixels / step, most, "resolutions", f"a baseline of {pixels:,} pixels", way_out)
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
