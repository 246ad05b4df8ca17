"""Where the optimum may lie: a confidence region on the triangle, and the intervals of the coefficients in it.

A polynomial's: a point x is in it where the data do not contradict that it is the optimum. If it is, no direction d
that stays in the triangle leads downhill: g·d ≥ 0 for the surface's gradient g there (0 inside). The
estimated gradient has the covariance that least squares gives it, so its squared distance from the set of
gradients that x allows, T = min over u in that set of (ĝ − u)ᵀ V⁻¹ (ĝ − u), is that of a likelihood-ratio
test. Inside the triangle T ÷ 2 has an F distribution with 2 and ν degrees of freedom, exactly; on an edge or
a corner its degrees are those of what the nearest allowed gradient leaves over.
Sources: Box and Hunter, "A confidence region for the solution of a set of simultaneous equations with an application
to experimental design", Biometrika 41 (1954); for the edges Susko, "Likelihood ratio tests with boundary constraints
using data-dependent degrees of freedom", Biometrika 100 (2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from scalesearch.analysis.optimum import Optimum
from scalesearch.analysis.surface import FloatArray, Surface, SurfaceFit

LEVEL = 0.95
# The region is found on lattices of the triangle, each three times as fine as the last, within the bounds found so
# far, until it holds so many points or they are as close as that.
_ENOUGH = 300
_STEPS = (60, 180, 540, 1620)
# A point can allow for its own slope and still be far worse than the optimum elsewhere; it is left out where that is
# certain at this level for all pairs of points at once (Scheffé's method), which costs the region next to nothing.
_WORSE_LEVEL = 0.99


@dataclass(frozen=True, slots=True)
class Region:
    """The points (M, 3) of the triangle that may be the optimum at `level`; `part` of the triangle is in it.

    `low` and `high` (3,) are the least and greatest depth, width and resolution share in it.
    """

    level: float
    points: FloatArray
    part: float

    @property
    def low(self) -> FloatArray:
        """Least shares (3,)."""
        return np.asarray(self.points.min(axis=0))

    @property
    def high(self) -> FloatArray:
        """Greatest shares (3,)."""
        return np.asarray(self.points.max(axis=0))

    def intervals(self, budget: float) -> dict[str, tuple[float, float]]:
        """Those of α, β and γ for `budget`: together they hold with at least the region's confidence."""
        halves = np.array([1.0, 0.5, 0.5])
        low, high = budget ** (self.low * halves), budget ** (self.high * halves)
        return {name: (float(a), float(b)) for name, a, b in zip(("alpha", "beta", "gamma"), low, high, strict=True)}


def confidence_region(fit: Surface, best: Optimum, maximise: bool, level: float = LEVEL) -> Region:
    """The region of `fit`, whose optimum is `best`: that point and those of a lattice that pass."""
    found = own = np.array([best.shares.values])
    if fit.residual_sd == 0:  # nothing is left open
        return Region(level, own, 0.0)
    margin, part = 1.0, 0.0
    for steps in _STEPS:
        points = fine_lattice(steps, found.min(axis=0) - margin, found.max(axis=0) + margin)
        inside = in_region(fit, best, points, maximise, level)
        found = np.vstack([own, points[inside]])
        part = float(inside.sum()) / math.comb(steps + 2, 2)
        if len(found) >= _ENOUGH:
            break
        margin = 2 / steps
    return Region(level, found, part)


@singledispatch
def in_region(
    fit: Surface, best: Optimum, points: FloatArray, maximise: bool, level: float = LEVEL
) -> NDArray[np.bool_]:
    """Which points (N, 3) may be the optimum of `fit` at `level`; each kind of surface has its own way to tell."""
    raise NotImplementedError(type(fit).__name__)


@in_region.register
def _(fit: SurfaceFit, best: Optimum, points: FloatArray, maximise: bool, level: float = LEVEL) -> NDArray[np.bool_]:
    """A polynomial's: by its slopes there, and what is certainly worse than the best left out."""
    worse = _worse(fit, points, np.array([best.shares.values]), maximise)
    return np.asarray((p_optimum(fit, points, maximise) >= 1 - level) & ~worse)


def fine_lattice(steps: int, low: FloatArray, high: FloatArray) -> FloatArray:
    """The points of the {3, steps} lattice between `low` and `high` (3,)."""
    first = np.maximum(np.ceil(low * steps), 0).astype(int)
    last = np.minimum(np.floor(high * steps), steps).astype(int)
    depth, width = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first[:2], last[:2], strict=True)), indexing="ij")
    resolution = steps - depth - width
    kept = (resolution >= first[2]) & (resolution <= last[2])
    return np.stack([depth[kept], width[kept], resolution[kept]], axis=1) / steps


def p_optimum(fit: SurfaceFit, points: FloatArray, maximise: bool) -> FloatArray:
    """For each point (N, 3) of the triangle the p value of its being the optimum."""
    count = len(points)
    coefficients, covariance = fit.mixture_coefficients
    sign = -1.0 if maximise else 1.0
    slopes = fit.gradient_terms(points)  # (N, 3, q)
    directions, bounded = _directions(points)  # (N, 2, 3), (N, 2)
    along = directions @ slopes
    gradient = sign * along @ coefficients
    inverse = np.linalg.inv(along @ covariance @ along.transpose(0, 2, 1))

    def squared(vectors: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("ni,nij,nj->n", vectors, inverse, vectors))

    distance, degrees = squared(gradient), np.full(count, 2)
    for place in range(2):  # the ray along which only this slope is above 0
        ray = np.zeros((count, 2))
        ray[:, place] = 1.0
        length = np.einsum("ni,nij,nj->n", gradient, inverse, ray) / squared(ray)
        rest = squared(gradient - length[:, None] * ray)
        nearer = bounded[:, place] & (length > 0) & (rest < distance)
        distance, degrees = np.where(nearer, rest, distance), np.where(nearer, 1, degrees)
    allowed = (bounded & (gradient >= 0)).all(axis=1)
    p = f_distribution.sf(distance / degrees, degrees, fit.residual_df)
    return np.asarray(np.where(allowed, 1.0, p))


def _directions(points: FloatArray) -> tuple[FloatArray, np.ndarray]:
    """Two directions (N, 2, 3) of the triangle's plane at each point, and which of them (N, 2) lead in from a side."""
    directions, bounded = np.zeros((len(points), 2, 3)), np.zeros((len(points), 2), bool)
    for row, point in enumerate(points.tolist()):
        absent = [i for i in range(3) if point[i] == 0]
        present = [i for i in range(3) if point[i] > 0]
        for place, i in enumerate(absent):
            directions[row, place] = -np.array(point)  # towards the corner i
            directions[row, place, i] += 1.0
            bounded[row, place] = True
        for place, (i, j) in zip(range(len(absent), 2), combinations(present, 2), strict=False):
            directions[row, place, i], directions[row, place, j] = 1.0, -1.0
    return directions, bounded


def _worse(fit: SurfaceFit, points: FloatArray, best: FloatArray, maximise: bool) -> np.ndarray:
    """Which points (N,) are certainly worse than `best` (1, 3)."""
    coefficients, covariance = fit.mixture_coefficients
    terms = fit.mixture(points) - fit.mixture(best)
    loss = (-1.0 if maximise else 1.0) * terms @ coefficients
    error = np.sqrt(np.einsum("ni,ij,nj->n", terms, covariance, terms))
    degrees = len(coefficients) - 1
    bound = math.sqrt(degrees * f_distribution.ppf(_WORSE_LEVEL, degrees, fit.residual_df))
    return np.asarray(loss > bound * error)
