"""Where the optimum may lie: a confidence region on the triangle, and the intervals of the coefficients in it.

A polynomial's: a point x is in it where the data do not contradict that it is the optimum. If it is, no other point
y is better, f(y) − f(x) ≥ 0, and no direction leads downhill from it. All these are linear in the coefficients b:
they allow a convex cone of them. The estimates have the covariance V that least squares gives them, so their squared
distance from the cone, T = min over b in the cone of (b̂ − b)ᵀ V⁻¹ (b̂ − b), is that of a likelihood-ratio test. With
k of the conditions holding b back, T ÷ k is compared with the F distribution with k and ν degrees of freedom. For a
point inside, where the surface is clearly convex, that is Box and Hunter's region for a stationary point (k = 2).
Sources: Box and Hunter, "A confidence region for the solution of a set of simultaneous equations with an application
to experimental design", Biometrika 41 (1954); for the degrees of freedom Susko, "Likelihood ratio tests with
boundary constraints using data-dependent degrees of freedom", Biometrika 100 (2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from scalesearch.analysis.optimum import Optimum
from scalesearch.analysis.surfaces.base import FloatArray, Surface, SurfaceFit
from scalesearch.scaling.simplex import lattice

LEVEL = 0.95
# The region is found on lattices of the triangle, each three times as fine as the last, around what is found so
# far, until it holds so many points or they are as close as that.
_ENOUGH = 300
_STEPS = (60, 180, 540, 1620)
# Pieces of a region that are so far apart in shares are two places, not one with holes.
_APART = 0.1
# So many points are judged at a time: their conditions are some 4 KiB a point, in several copies.
_AT_ONCE = 256
# The points that no optimum may be worse than.
_RIVALS = np.array([point.values for point in lattice(8)])


@dataclass(frozen=True, slots=True)
class Region:
    """The points (M, 3) of the triangle that may be the optimum at `level`; `part` of the triangle is in it.

    `places` (P, 3) are the best points of the P pieces that it falls into, the best one first. `regret` is the most
    that the estimated optimum loses to a point in it, a bound at `level` in units of the metric, and `range` how
    far the surface's best and worst splits are apart. `low` and `high` (3,) are the least and greatest depth, width
    and resolution share in it.
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
        """`part` in words: 21.0%."""
        return f"{self.part:.1%}" if self.part >= 0.001 else "less than 0.1%"

    def intervals(self, budget: float) -> dict[str, tuple[float, float]]:
        """Those of α, β and γ for `budget`: together they hold with at least the region's confidence."""
        halves = np.array([1.0, 0.5, 0.5])
        low, high = budget ** (self.low * halves), budget ** (self.high * halves)
        return {name: (float(a), float(b)) for name, a, b in zip(("alpha", "beta", "gamma"), low, high, strict=True)}


def confidence_region(fit: Surface, best: Optimum, maximise: bool, level: float = LEVEL) -> Region:
    """The region of `fit`, whose optimum is `best`: that point and those of a lattice that pass."""
    found = own = np.array([best.shares.values])
    points, part = fine_lattice(_STEPS[0], np.zeros(3), np.ones(3)), 0.0
    surface_range = float(np.ptp(fit.predict(points)))
    if fit.residual_sd == 0:  # nothing is left open
        return Region(level, own, 0.0, own, 0.0, surface_range)
    steps = _STEPS[0]
    for finer in (*_STEPS[1:], None):
        inside = in_region(fit, points, maximise, level)
        found = np.vstack([own, points[inside]])
        part = float(inside.sum()) / math.comb(steps + 2, 2)
        if len(found) >= _ENOUGH or finer is None:
            break
        steps, points = finer, _around(found, finer)
    return Region(
        level,
        found,
        part,
        _places(fit, found, maximise),
        regret_bound(fit, best, found, maximise, level),
        surface_range,
    )


def _places(fit: Surface, points: FloatArray, maximise: bool) -> FloatArray:
    """The best point of each group of `points` (N, 3) that lies `_APART` from the others, the best one first."""
    pairs = KDTree(points).query_pairs(_APART, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(points), len(points)))
    _, group = connected_components(links, directed=False)
    best_first = np.argsort((-1 if maximise else 1) * fit.predict(points), kind="stable")
    _, first = np.unique(group[best_first], return_index=True)
    return np.asarray(points[best_first[np.sort(first)]])


@singledispatch
def regret_bound(fit: Surface, best: Optimum, points: FloatArray, maximise: bool, level: float = LEVEL) -> float:
    """The most that the optimum `best` of `fit` loses to one of `points` (N, 3), a bound at `level`."""
    raise NotImplementedError(type(fit).__name__)  # each kind of surface registers its own


@regret_bound.register
def _(fit: SurfaceFit, best: Optimum, points: FloatArray, maximise: bool, level: float = LEVEL) -> float:
    """A polynomial's: the greatest of the two-sided bounds of the differences; the optimum is where it looks best."""
    coefficients, covariance = fit.mixture_coefficients
    terms = (-1.0 if maximise else 1.0) * (fit.mixture([best.shares.values]) - fit.mixture(points))
    error = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", terms, covariance, terms), 0.0))
    return float((terms @ coefficients + t_distribution.ppf((1 + level) / 2, fit.residual_df) * error).max())


@singledispatch
def in_region(fit: Surface, points: FloatArray, maximise: bool, level: float = LEVEL) -> NDArray[np.bool_]:
    """Which points (N, 3) may be the optimum of `fit` at `level`; each kind of surface has its own way to tell."""
    raise NotImplementedError(type(fit).__name__)  # each kind of surface registers its own


@in_region.register
def _(fit: SurfaceFit, points: FloatArray, maximise: bool, level: float = LEVEL) -> NDArray[np.bool_]:
    """A polynomial's: those of a p value of at least 1 − level, most others being left out by a bound of it."""
    parts = np.array_split(points, range(_AT_ONCE, len(points), _AT_ONCE))
    return np.concatenate([_in_polynomials(fit, part, maximise, level) for part in parts])


def _in_polynomials(fit: SurfaceFit, points: FloatArray, maximise: bool, level: float) -> NDArray[np.bool_]:
    conditions, estimate = _conditions(fit, points, maximise)
    most = len(estimate) - 1  # the conditions say nothing about a constant
    farthest = np.maximum(-(conditions @ estimate).min(axis=1), 0.0)
    inside = f_distribution.sf(farthest**2 / most, most, fit.residual_df) >= 1 - level
    inside[inside] = _p(conditions[inside], estimate, fit.residual_df) >= 1 - level
    return np.asarray(inside)


def fine_lattice(steps: int, low: FloatArray, high: FloatArray) -> FloatArray:
    """The points of the {3, steps} lattice between `low` and `high` (3,)."""
    first = np.maximum(np.ceil(low * steps), 0).astype(int)
    last = np.minimum(np.floor(high * steps), steps).astype(int)
    depth, width = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first[:2], last[:2], strict=True)), indexing="ij")
    resolution = steps - depth - width
    kept = (resolution >= first[2]) & (resolution <= last[2])
    return np.stack([depth[kept], width[kept], resolution[kept]], axis=1) / steps


def _around(points: FloatArray, steps: int) -> FloatArray:
    """The points of the {3, steps} lattice that are up to six steps in depth and in width away from `points` (N, 3)."""
    moves = np.array([(depth, width) for depth in range(-6, 7) for width in range(-6, 7)])
    cells = np.unique((np.rint(points[:, :2] * steps)[:, None] + moves).reshape(-1, 2), axis=0)
    near = np.column_stack([cells, steps - cells.sum(axis=1)])
    return np.asarray(near[(near >= 0).all(axis=1)] / steps)


def p_optimum(fit: SurfaceFit, points: FloatArray, maximise: bool) -> FloatArray:
    """For each point (N, 3) of the triangle the p value of its being the optimum."""
    conditions, estimate = _conditions(fit, points, maximise)
    return _p(conditions, estimate, fit.residual_df)


def _conditions(fit: SurfaceFit, points: FloatArray, maximise: bool) -> tuple[FloatArray, FloatArray]:
    """What (N, M, q) the coefficients must not be negative along for each point to be the optimum, and these (q,).

    In units in which the coefficients' errors are independent and 1; each condition is of length 1, or 0 if it is none.
    """
    coefficients, covariance = fit.mixture_coefficients
    root = np.linalg.cholesky(covariance)
    slopes = (np.eye(3) - points[:, None]) @ fit.gradient_terms(points)  # towards the corners
    gains = fit.mixture(_RIVALS) - fit.mixture(points)[:, None]
    conditions = np.concatenate([slopes, gains], axis=1) @ root
    length = np.linalg.norm(conditions, axis=2, keepdims=True)
    none = length <= 1e-9 * length.max()
    estimate = np.linalg.solve(root, coefficients) * (-1.0 if maximise else 1.0)
    return np.where(none, 0.0, conditions / np.where(none, 1.0, length)), estimate


def _p(conditions: FloatArray, estimate: FloatArray, df: float) -> FloatArray:
    """P values (N,) of conditions (N, M, q): by the part of the estimate (q,) that they forbid, and how many do."""
    squared, holding = np.zeros(len(conditions)), np.ones(len(conditions))
    for place in np.flatnonzero((conditions @ estimate < 0).any(axis=1)):
        multipliers, _ = nnls(-conditions[place].T, estimate)
        forbidden = conditions[place].T @ multipliers
        squared[place], holding[place] = forbidden @ forbidden, max((multipliers > 0).sum(), 1)
    return np.asarray(f_distribution.sf(squared / holding, holding, df))
