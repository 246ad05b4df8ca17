"""What a rounding policy reaches between two multipliers of a dimension, grown or shrunk.

Row 0 is the baseline's. The rows behind it are distinct and rise; of a grown dimension nothing is smaller than in the
baseline, of a shrunk one nothing is larger. `reachable` lists everything that a budget can pay for; a large member of
a family has too much of that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.compound import Rounding, round_depths, round_widths, spread_depth
from scalesearch.scaling.cost.count import areas
from scalesearch.scaling.cost.tally import IntArray


def depths_between(baseline: ArchitectureSpec, rounding: Rounding, low: float, high: float) -> IntArray:
    """Blocks (D, n) of every stage for multipliers from `low` to `high`, both above 1 or both below it."""
    deepened = baseline.depths[rounding.deepened]
    total = sum(deepened)
    if rounding.depth == "balanced":
        listed = range(max(len(deepened), math.floor(low * total)), math.ceil(high * total) + 1)
        rows = [_in_place(baseline.depths, rounding.deepened, spread_depth(deepened, blocks)) for blocks in listed]
        return _distinct(baseline.depths, rows, grown=high > 1)
    shift = 0.0 if rounding.depth == "ceil" else 0.5
    steps = (
        (blocks + shift) / depth
        for depth in set(deepened)
        for blocks in range(math.floor(low * depth), math.ceil(high * depth) + 1)
    )
    ends = rounding.first_last_depth
    return _rows(baseline.depths, steps, low, high, lambda m: round_depths(baseline.depths, m, rounding.depth, ends))


def widths_between(baseline: ArchitectureSpec, rounding: Rounding, low: float, high: float) -> IntArray:
    """Widths (W, n + 2) of stem, stages and head for multipliers from `low` to `high`, as in `depths_between`."""
    divisor = rounding.width_divisor
    steps = (
        step
        for width in set(baseline.widths) - {0}
        for rounded in range(
            math.floor(low * width / divisor) * divisor, math.ceil(high * width) + 2 * divisor, divisor
        )
        for step in ((rounded - divisor / 2) / width, rounded / (0.9 * width))
    )
    # At a step itself the row may be one that neither side has, as in `reachable`.
    return _rows(baseline.widths, steps, low, high, lambda m: round_widths(baseline.widths, m, rounding), at_steps=True)


def resolutions_between(
    baseline: ArchitectureSpec, rounding: Rounding, low: float, high: float, most: int | None = None
) -> IntArray:
    """Resolutions (R,) of at most `most` for multipliers from `low` to `high`, as in `depths_between`.

    Of those with the same maps in every layer the largest, which shows most; none has all the maps of the baseline.
    """
    step, pixels = rounding.resolution_step, baseline.resolution
    # A few more, so that those with the same maps as the last one are seen.
    more = baseline.stem.stride + step
    first = max(1, math.floor(low * pixels / step)) * step
    last = math.ceil(high * pixels) + more
    listed = np.arange(first, (last if most is None else min(last, most)) + 1, step, dtype=np.int64)
    listed = listed[listed > pixels] if high > 1 else listed[listed < pixels]
    area, baseline_area = areas(baseline, listed), areas(baseline, np.array([pixels]))
    kept = (area != baseline_area).any(axis=0)
    kept[:-1] &= (area[:, 1:] != area[:, :-1]).any(axis=0)
    return np.concatenate([[pixels], listed[kept]])


def rows_between(baseline: ArchitectureSpec, rounding: Rounding) -> tuple[float, float, float]:
    """How many rows of depths, widths and resolutions there are about for a multiplier that rises by 1."""
    deepened = baseline.depths[rounding.deepened]
    return (
        sum(deepened if rounding.depth == "balanced" else set(deepened)),
        2 * sum(set(baseline.widths)) / rounding.width_divisor,
        baseline.resolution / rounding.resolution_step,
    )


def _in_place(baseline: tuple[int, ...], scaled: slice, rows: tuple[int, ...]) -> tuple[int, ...]:
    whole = list(baseline)
    whole[scaled] = rows
    return tuple(whole)


def _rows(
    baseline: tuple[int, ...],
    steps: Iterable[float],
    low: float,
    high: float,
    rounded: Callable[[float], tuple[int, ...]],
    *,
    at_steps: bool = False,
) -> IntArray:
    """The rows between `low` and `high`, where `steps` are the multipliers at which one of their values changes."""
    inside = sorted({step for step in steps if low < step < high})
    multipliers = [(one + other) / 2 for one, other in itertools.pairwise([low, *inside, high])]
    if at_steps:
        multipliers = sorted([*multipliers, *inside])
    return _distinct(baseline, [rounded(m) for m in multipliers], grown=high > 1)


def _distinct(baseline: tuple[int, ...], rows: list[tuple[int, ...]], *, grown: bool) -> IntArray:
    """`baseline`, and of the `rows` the others that have only grown, or only shrunk."""
    kept = np.array(list(dict.fromkeys([baseline, *rows])), np.int64)
    only_that = kept >= kept[0] if grown else kept <= kept[0]
    rows_kept: IntArray = kept[only_that.all(axis=1)]
    return rows_kept
