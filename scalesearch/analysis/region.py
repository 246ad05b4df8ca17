"""The confidence region of a surface's optimum on the triangle, and the intervals of the coefficients in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from scalesearch.analysis.statistics import LEVEL, FloatArray
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.analysis.surfaces.lattices import lattice_around, lattice_between
from scalesearch.runtime.text import percent
from scalesearch.scaling.simplex import Shares

# The region is searched on lattices of the triangle, each three times as fine as the last and only around the points
# found so far, until it has enough points or the lattice is the finest.
_ENOUGH = 300
_STEPS = (60, 180, 540, 1620)
# Pieces of a region that are this far apart in shares are separate places, not one place with holes.
_APART = 0.1


@dataclass(frozen=True, slots=True)
class Region:
    """The points of the triangle that may be the optimum at `level`.

    Attributes:
        level: confidence.
        points: points (M, 3) of a lattice that are in the region, and the estimated optimum.
        part: fraction of the triangle that the region covers.
        places: the best point (P, 3) of each of its P separate pieces, the best piece first.
        regret: the most that the estimated optimum loses to a point of the region, a bound at `level` in the metric's
            unit.
        range: difference between the surface's best and worst values on the triangle, in the metric's unit.
    """

    level: float
    points: FloatArray
    part: float
    places: FloatArray
    regret: float
    range: float

    @property
    def low(self) -> FloatArray:
        """Least shares (3,)."""
        return np.asarray(self.points.min(axis=0))

    @property
    def high(self) -> FloatArray:
        """Greatest shares (3,)."""
        return np.asarray(self.points.max(axis=0))

    @property
    def part_text(self) -> str:
        """`part` as text: `21 %`, or `less than 0.1 %`."""
        return percent(self.part) if self.part >= 0.001 else "less than 0.1 %"

    def intervals(self, budget: float) -> dict[str, tuple[float, float]]:
        """Intervals of α, β and γ for `budget`; jointly they hold with at least the region's confidence."""
        halves = np.array([1.0, 0.5, 0.5])
        low, high = budget ** (self.low * halves), budget ** (self.high * halves)
        return {name: (float(a), float(b)) for name, a, b in zip(("alpha", "beta", "gamma"), low, high, strict=True)}


def confidence_region(surface: Surface, best: Shares, maximise: bool, level: float = LEVEL) -> Region:
    """The confidence region of the optimum of `surface`, whose estimate is `best`; the region always contains it."""
    estimate = np.array([best.values])
    steps = _STEPS[0]
    lattice = lattice_between(steps, np.zeros(3), np.ones(3))
    surface_range = float(np.ptp(surface.predict(lattice)))
    if surface.residual_sd == 0:  # no error: only the estimate remains
        return Region(level, estimate, 0.0, estimate, 0.0, surface_range)
    for finer in (*_STEPS[1:], None):
        inside = surface.may_be_optimum(lattice, maximise, level)
        points = np.vstack([estimate, lattice[inside]])
        part = float(inside.sum()) / math.comb(steps + 2, 2)
        if len(points) >= _ENOUGH or finer is None:
            break
        steps, lattice = finer, lattice_around(points, finer)
    regret = surface.regret_bound(best, points, maximise, level)
    return Region(level, points, part, _places(surface, points, maximise), regret, surface_range)


def _places(surface: Surface, points: FloatArray, maximise: bool) -> FloatArray:
    """The best point of each group of `points` (N, 3) that is `_APART` from the others, the best group first."""
    pairs = KDTree(points).query_pairs(_APART, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(points), len(points)))
    _, group = connected_components(links, directed=False)
    best_first = np.argsort((-1 if maximise else 1) * surface.predict(points), kind="stable")
    _, first = np.unique(group[best_first], return_index=True)
    return np.asarray(points[best_first[np.sort(first)]])
