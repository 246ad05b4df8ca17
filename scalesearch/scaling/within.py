"""Which combinations of depths, widths and resolutions cost what is asked, and how they split that cost.

With depths and widths given, the cost rises with the resolution. So the resolutions within a tolerance are neighbours,
and the ends of their run are found by halving: most combinations need not be counted, and none is listed in vain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.budgeted import Cost
from scalesearch.scaling.cost.count import FloatArray, areas, tabulate
from scalesearch.scaling.cost.tally import IntArray
from scalesearch.scaling.reachable import Axes
from scalesearch.scaling.split import log_parts, shares_of_parts

# Numbers held for the networks within the tolerance at most: those of 1.2 million networks of 7 stages.
MOST_NUMBERS = 12_000_000
# Numbers of a table that are held at once (float64: 32 MB).
_CELLS = 4_000_000
# Up to so many resolutions all costs are counted, which is then faster than halving.
_FEW = 32


@dataclass(frozen=True, slots=True)
class Within:
    """The networks that cost what is asked, in order of depth, width, resolution.

    Attributes:
        index: places (N, 3) in the axes.
        costs: their costs (N,).
        shares: how each splits its cost (N, 3).
    """

    index: NDArray[np.intp]
    costs: FloatArray
    shares: FloatArray


@dataclass(frozen=True, slots=True)
class Combinations:
    """All networks of three axes.

    Attributes:
        baseline: the network that they grow from.
        axes: depths, widths and resolutions, the baseline's first.
        cost: what is counted.
        unwidened: which rows (W,) of widths are no growth. With the baseline's depths and resolution they are left out.
    """

    baseline: ArchitectureSpec
    axes: Axes
    cost: Cost
    unwidened: NDArray[np.bool_]

    def within(self, target: float, tolerance: float, chunk: int, most_numbers: int = MOST_NUMBERS) -> Within:
        """The networks with |cost ÷ `target` − 1| ≤ `tolerance`.

        `chunk` combinations at a time get their shares, which may depend on it in the last digit.

        Raises `InputError`, before they are listed, if they take more than `most_numbers`.
        """
        area = areas(self.baseline, self.axes.resolutions).astype(np.float64)
        most, total = most_numbers // len(area), 0
        parts: list[tuple[NDArray[np.intp], FloatArray, FloatArray]] = []
        for d, w, weights in self._blocks():
            start, stop = _first(
                weights,
                area,
                lambda costs: costs / target - 1 >= -tolerance,
                lambda costs: costs / target - 1 > tolerance,
            )
            total += int((stop - start).sum())
            if total > most:
                raise InputError(
                    f"`tolerance` must leave at most {most:,} networks at a `budget`, but {tolerance:g} leaves more: "
                    "take a smaller one, or a smaller budget"
                )
            row, r = _runs(start, stop)
            index = np.stack([d[row], w[row], r], axis=1)
            parts.append((index, _costs(weights, area, row, r), _costs(weights, area, row, np.zeros_like(r))))
        index, costs, small = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        grown = (index[:, 0] > 0) | (index[:, 2] > 0) | ~self.unwidened[index[:, 1]]
        index, costs, small = index[grown], costs[grown], small[grown]
        if len(parts) > 1:
            order = np.lexsort(index.T[::-1])
            index, costs, small = index[order], costs[order], small[order]
        return Within(index, costs, self._shares(area, index, costs, small, chunk))

    def nearest(self, target: float) -> float:
        """The cost ÷ `target` that is nearest to 1; infinite if there is no network."""
        area = areas(self.baseline, self.axes.resolutions).astype(np.float64)
        nearest = math.inf
        for d, w, weights in self._blocks():
            (above,) = _first(weights, area, lambda costs: costs >= target)
            least = ((d == 0) & self.unwidened[w]).astype(np.int64)
            for r in (np.maximum(above - 1, least), np.maximum(above, least)):
                row = np.flatnonzero(r < area.shape[1])
                ratios = _costs(weights, area, row, r[row]) / target
                if len(row) and np.abs(ratios - 1).min() < abs(nearest - 1):
                    nearest = float(ratios[np.abs(ratios - 1).argmin()])
        return nearest

    def _blocks(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]]:
        """Rows of depths and of widths (K,), and the numbers (K, L) that cost this much for each position of a level.

        All pairs of rows, some at a time.
        """
        depths, widths = self.axes.depths, self.axes.widths
        n, levels = depths.shape[1], depths.shape[1] + 3
        wide = max(1, _CELLS // ((n + 1) * levels))
        for w in range(0, len(widths), wide):
            table = self._table(widths[w : w + wide])
            deep = max(1, _CELLS // (len(table) * max(levels, _FEW)))
            for d in range(0, len(depths), deep):
                weights = np.tensordot(_blocks(depths[d : d + deep]), table, axes=(1, 1))
                rows = np.indices(weights.shape[:2]).reshape(2, -1)
                yield rows[0] + d, rows[1] + w, weights.reshape(-1, levels)

    def _table(self, widths: IntArray) -> FloatArray:
        return self.cost.table(tabulate(self.baseline, widths)).astype(np.float64)

    def _shares(
        self, area: FloatArray, index: NDArray[np.intp], costs: FloatArray, small: FloatArray, chunk: int
    ) -> FloatArray:
        """Shares (N, 3) of the networks at `index`, whose costs at the least resolution are `small`."""
        rows = max(1, chunk // (len(self.axes.widths) * len(self.axes.resolutions)))
        starts = np.flatnonzero(np.diff(index[:, 0] // rows, prepend=-1))
        shares = [np.zeros((0, 3))]
        for place in np.split(np.arange(len(index)), starts[1:]):
            if not len(place):
                continue
            d, w, r = index[place].T
            corners = np.empty((2, 2, 2, len(place)))  # [deepened?, widened?, enlarged?]
            corners[1, 1, 1], corners[1, 1, 0] = costs[place], small[place]
            corners[1, 0] = self._corners(d, np.zeros_like(w), r, area)
            corners[0, 1] = self._corners(np.zeros_like(d), w, r, area)
            corners[0, 0] = self._corners(np.zeros_like(d), np.zeros_like(w), r, area)
            shares.append(shares_of_parts(log_parts(corners)))
        return np.concatenate(shares)

    def _corners(self, d: NDArray[np.intp], w: NDArray[np.intp], r: NDArray[np.intp], area: FloatArray) -> FloatArray:
        """Costs (2, N) at the baseline's resolution and at `r`; either all `d` or all `w` are 0."""
        one, row = np.unique(d if d.any() else w, return_inverse=True)
        weights = np.empty((len(one), len(area)))
        step = max(1, _CELLS // ((self.axes.depths.shape[1] + 1) * len(area)))
        for start in range(0, len(one), step):
            part = one[start : start + step]
            blocks = _blocks(self.axes.depths[part if d.any() else [0]])
            table = self._table(self.axes.widths[[0] if d.any() else part])
            weights[start : start + step] = np.tensordot(blocks, table, axes=(1, 1)).reshape(-1, len(area))
        return np.stack([_costs(weights, area, row, np.zeros_like(r)), _costs(weights, area, row, r)])


def _blocks(depths: IntArray) -> FloatArray:
    """What a table (n + 1) is multiplied by for `depths` (D, n): see `cost.count.Tables`."""
    return np.insert((depths - 1).astype(np.float64), 0, 1.0, axis=1)


def _costs(weights: FloatArray, area: FloatArray, row: NDArray[np.intp], r: NDArray[np.intp]) -> FloatArray:
    """Costs (N,) of the rows of `weights` (K, L) at the resolutions `r` of `area` (L, R).

    Every term and sum is a whole number below 2⁵³, so that they are exact.
    """
    costs, step = np.empty(len(row)), max(1, _CELLS // len(area))
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        costs[part] = np.einsum("nl,nl->n", weights[row[part]], area.T[r[part]])
    return costs


def _first(
    weights: FloatArray, area: FloatArray, *conditions: Callable[[FloatArray], NDArray[np.bool_]]
) -> list[NDArray[np.intp]]:
    """For each condition, and each row of `weights` (K, L), the first resolution whose cost meets it; R if none does.

    A condition that a cost meets holds for all larger ones.
    """
    if area.shape[1] <= _FEW:
        costs = weights @ area
        return [np.asarray((~meets(costs)).sum(axis=1)) for meets in conditions]
    ends = weights @ area[:, [0, -1]]
    return [_halved(weights, area, ends, meets) for meets in conditions]


def _halved(
    weights: FloatArray, area: FloatArray, ends: FloatArray, meets: Callable[[FloatArray], NDArray[np.bool_]]
) -> NDArray[np.intp]:
    """What `_first` finds, for one condition; `ends` are the costs (K, 2) at the least and the largest resolution."""
    low, high = np.zeros(len(weights), np.intp), np.full(len(weights), area.shape[1], np.intp)
    # Most rows are beyond it at the least resolution, or not there at the largest.
    high[meets(ends[:, 0])] = 0
    low[~meets(ends[:, 1])] = area.shape[1]
    while (open_rows := np.flatnonzero(low < high)).size:
        middle = (low[open_rows] + high[open_rows]) // 2
        there = meets(_costs(weights, area, open_rows, middle))
        high[open_rows[there]] = middle[there]
        low[open_rows[~there]] = middle[~there] + 1
    return np.minimum(low, high)


def _runs(start: NDArray[np.intp], stop: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The row and the value of each whole number from `start` (K,) to below `stop` (K,)."""
    lengths = stop - start
    row = np.repeat(np.arange(len(lengths)), lengths)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths - start, lengths)
