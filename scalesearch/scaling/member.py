"""The integer network that costs a multiple of its baseline and lies nearest to given shares of that cost.

It is looked for around the point where a network of fractions would have these shares (`fractional`): in windows of
what rounding reaches (`window`), each wider than the one before, until nothing outside can be nearer.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Rounding, scale
from scalesearch.scaling.cost.budgeted import MACS, Cost
from scalesearch.scaling.cost.count import areas, count, tabulate
from scalesearch.scaling.cost.tally import IntArray
from scalesearch.scaling.fractional import FractionalCosts
from scalesearch.scaling.simplex import EQUAL, Shares
from scalesearch.scaling.split import log_parts, split_costs
from scalesearch.scaling.window import depths_between, resolutions_between, rows_between, widths_between

# Half the width of the first window, in the logarithm of cost; the next ones are twice as wide each.
_WINDOW = 0.1
# Rows of a dimension, and networks, that are looked at together, at most. So many are steps of a thousandth.
_MOST_ROWS, _MOST_NETWORKS = 1000, 500_000
# A network at a distance of up to 1 ÷ this of a window's half lies in the window: its parts, share · ln(cost ratio),
# differ by up to twice the distance from what was asked, and they change a little with the other dimensions.
_CERTAIN = 2.5


@dataclass(frozen=True, slots=True)
class Found:
    """A network, its shares of real cost, its cost ratio, and whether that is within the tolerance of the one asked."""

    spec: ArchitectureSpec
    shares: Shares
    cost_ratio: float
    within_tolerance: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """What a window holds: the nearest network within the tolerance, and the nearest in cost.

    `distance` is that of the first, ∞ if there is none. `cut` says whether rows were left out that belong there.
    """

    distance: float
    network: Found | None
    closest: Found | None
    cut: bool


def nearest_network(
    baseline: ArchitectureSpec,
    rounding: Rounding,
    shares: Shares,
    ratio: float,
    tolerance: float,
    cost: Cost = MACS,
    max_resolution: int | None = None,
) -> Found:
    """The network within `tolerance` of `ratio` times the baseline's cost that lies nearest to `shares`.

    Distances are those of `feasible.FeasibleSet.log_distances`. For a ratio above 1 nothing is smaller than in the
    baseline, below 1 nothing is larger. A dimension without a share stays as it is if a network within the tolerance
    exists that way. If none is within the tolerance, the nearest in cost of those that were looked at.

    Args:
        baseline: the network at a ratio of 1.
        rounding: what multipliers can reach.
        shares: how ln(cost ratio) is to be split.
        ratio: the cost asked for, as a multiple of the baseline's; above 0.
        tolerance: a fraction of that cost.
        cost: what is counted.
        max_resolution: the largest resolution; what it takes goes to depth and width.
    """
    log_cost = math.log(ratio)
    same = Found(baseline, EQUAL, 1.0, abs(1 / ratio - 1) <= tolerance)
    if log_cost == 0:
        return same
    fractions = FractionalCosts(baseline, rounding, cost, grown=ratio > 1)
    most = None
    if max_resolution is not None and ratio > 1:
        most = max(baseline.resolution, max_resolution // rounding.resolution_step * rounding.resolution_step)
    centre, target = fractions.split(shares, log_cost, most)
    search = _Search(baseline, rounding, cost, target, ratio, tolerance, centre, fractions.slopes(centre), most)
    look = search.widen(tuple(share == 0 for share in target.values))
    if look.network is None and 0 in target.values:
        look = search.widen((False, False, False))
    if look.network is not None:
        return look.network
    nothing_else = look.closest is None or abs(math.log(look.closest.cost_ratio) - log_cost) >= abs(log_cost)
    return same if same.within_tolerance or nothing_else or look.closest is None else look.closest


@dataclass(frozen=True, slots=True)
class _Search:
    """`slopes` are those of `FractionalCosts.slopes` at the `centre`; no resolution is above `most`."""

    baseline: ArchitectureSpec
    rounding: Rounding
    cost: Cost
    target: Shares
    ratio: float
    tolerance: float
    centre: Coefficients
    slopes: tuple[float, float, float]
    most: int | None

    def widen(self, fixed: tuple[bool, ...]) -> _Look:
        """The last of ever wider windows, in which the dimensions that are `fixed` stay as in the baseline."""
        half, far = _WINDOW, 1.5 * abs(math.log(self.ratio)) + 2 * _WINDOW
        alone = sum(fixed) == 2  # its part is the whole cost: no further window holds another within the tolerance
        while True:
            look = self.look(half, fixed)
            if look.cut or look.distance * _CERTAIN <= half or half > far:
                return look
            if alone and half > 4 * self.tolerance:
                return look
            half *= 2

    def look(self, half: float, fixed: tuple[bool, ...]) -> _Look:
        """The networks whose parts are within `half` of what is asked."""
        (depths, widths, resolutions), cut = self.rows(half, fixed)
        table, area = self.cost.table(tabulate(self.baseline, widths)), areas(self.baseline, resolutions)
        middle = scale(self.baseline, self.centre, self.rounding)
        places = (
            int(np.abs(depths.sum(axis=1) - sum(middle.depths)).argmin()),
            int(np.abs(widths.sum(axis=1) - sum(middle.widths)).argmin()),
            int(np.abs(resolutions - middle.resolution).argmin()),
        )
        kept = [self.inside(half, axis, table, depths, area, places) for axis in range(3)]
        limits = _within_limit([len(rows) for rows in kept])
        d, w, r = (np.union1d(rows[:limit], [0]) for rows, limit in zip(kept, limits, strict=True))
        cut = cut or limits != [len(rows) for rows in kept]

        # All combinations of them. Networks whose stages and resolution are the baseline's are no candidates.
        costs = count(table[w], depths[d], area[:, r])
        ratios = costs / self.cost.of(self.baseline)
        unchanged = (widths[w, 1:-1] == widths[0, 1:-1]).all(axis=1)
        ratios[0, unchanged, 0] = math.inf
        off = np.abs(ratios / self.ratio - 1)
        within = np.argwhere(off <= self.tolerance)
        index = within if len(within) else np.array([np.unravel_index(int(off.argmin()), off.shape)])
        if not len(within) and math.isinf(ratios[tuple(index[0])]):
            return _Look(math.inf, None, None, cut)
        shares = split_costs(costs, count(table[w], depths[:1], area[:, r])[0], index)
        found = ratios[tuple(index.T)]
        apart = np.linalg.norm(shares - np.array(self.target.values), axis=1) * abs(math.log(self.ratio))
        distances = np.hypot(apart, np.log(found / self.ratio))
        best = int(distances.argmin())
        a, b, c = index[best]
        spec = self.baseline.with_sizes(
            tuple(depths[d[a]].tolist()), tuple(widths[w[b]].tolist()), int(resolutions[r[c]])
        )
        network = Found(spec, Shares(*shares[best].tolist()), float(found[best]), len(within) > 0)
        return _Look(float(distances[best]), network, None, cut) if len(within) else _Look(math.inf, None, network, cut)

    def rows(self, half: float, fixed: tuple[bool, ...]) -> tuple[tuple[IntArray, IntArray, IntArray], bool]:
        """Rows of depths, widths and resolutions whose parts can be within `half` of what is asked; whether it is cut.

        Rounding up moves a small stage by as much as a block, a width by half a divisor, and a last map by a position,
        which is the whole stride of the network in pixels.
        """
        baseline, rounding, log_cost = self.baseline, self.rounding, math.log(self.ratio)
        middle = sorted(baseline.widths[1:-1])[len(baseline.stages) // 2]
        stride = math.prod(
            (baseline.stem.stride, baseline.stem.pool_stride, *(stage.stride for stage in baseline.stages))
        )
        slack = (
            1 / min(baseline.depths[rounding.deepened]),
            rounding.width_divisor / middle / 2,
            max(rounding.resolution_step, stride) / baseline.resolution,
        )
        density = rows_between(baseline, rounding)
        windows, cut = [], False
        for axis, multiplier in enumerate(dataclasses.astuple(self.centre)):
            slope = max(self.slopes[axis], 0.1)
            spread, end = 1.25 * half / slope, 1.5 * (abs(log_cost) + _WINDOW) / slope
            low = multiplier * math.exp(-min(spread, end)) - slack[axis]
            high = min(multiplier * math.exp(spread), math.exp(end)) + slack[axis]
            low, high = (max(low, 1.0), high) if self.ratio > 1 else (max(low, 0.0), min(high, 1.0))
            room = _MOST_ROWS / density[axis]
            if high - low > room:
                low, high, cut = max(low, multiplier - room / 2), min(high, multiplier + room / 2), True
            windows.append((low, high))
        listed = (
            depths_between(baseline, rounding, *windows[0]),
            widths_between(baseline, rounding, *windows[1]),
            resolutions_between(baseline, rounding, *windows[2], self.most),
        )
        depths, widths, resolutions = (rows[:1] if stays else rows for rows, stays in zip(listed, fixed, strict=True))
        return (depths, widths, resolutions), cut

    def inside(
        self,
        half: float,
        axis: int,
        table: IntArray,
        depths: IntArray,
        area: IntArray,
        places: tuple[int, int, int],
    ) -> NDArray[np.intp]:
        """The rows of a dimension whose part is within `half` of what is asked, at least one, the nearest first.

        The other two dimensions are at their `places`.
        """
        lists: list[slice | list[int]] = [[0, place] for place in places]
        lists[axis] = slice(None)
        costs = count(table[lists[1]], depths[lists[0]], area[:, lists[2]])
        rows = np.moveaxis(costs, axis, -1)
        corners = np.moveaxis(np.stack([np.broadcast_to(rows[..., :1], rows.shape), rows]), 0, axis)
        away = np.abs(log_parts(corners)[..., axis] - self.target.values[axis] * math.log(self.ratio))
        return np.argsort(away, kind="stable")[: max(1, int((away <= half).sum()))]


def _within_limit(sizes: list[int]) -> list[int]:
    """`sizes`, the largest made smaller until their product is at most `_MOST_NETWORKS`."""
    sizes = list(sizes)
    while math.prod(sizes) > _MOST_NETWORKS:
        largest = max(range(3), key=sizes.__getitem__)
        sizes[largest] = sizes[largest] * 9 // 10
    return sizes
