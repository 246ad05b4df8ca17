"""Which points of the triangle may be the optimum of a mixture polynomial: a likelihood-ratio test for each point.

A point x may be the optimum if the data do not contradict it. If x is the optimum, no other point y is better,
f(y) − f(x) ≥ 0, and no direction leads downhill from x. All these conditions are linear in the coefficients b, so
together they allow a convex cone of coefficients. Least squares gives the estimates b̂ the covariance V, and the test
statistic is the squared distance of b̂ from the cone, T = min over b in the cone of (b̂ − b)ᵀ V⁻¹ (b̂ − b). If k of the
conditions are active at the minimum, T ÷ k is compared with the F distribution with k and ν degrees of freedom. For an
interior point of a clearly convex surface that is Box and Hunter's region for a stationary point (k = 2).
Sources: Box and Hunter, "A confidence region for the solution of a set of simultaneous equations with an application
to experimental design", Biometrika 41 (1954); for the degrees of freedom Susko, "Likelihood ratio tests with
boundary constraints using data-dependent degrees of freedom", Biometrika 100 (2013).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import f as f_distribution

from scalesearch.analysis.statistics import FloatArray
from scalesearch.analysis.surfaces.mixture import mixture_slopes, mixture_terms
from scalesearch.scaling.simplex import lattice

# Number of points tested at a time: the conditions of a point take some 4 KiB, in several copies.
_CHUNK = 256
# The optimum must be no worse than any of these points.
_COMPARED = np.array([point.values for point in lattice(8)])


class ConeTest:
    """The test for a polynomial with coefficients (q,), their covariance (q, q) and ν = `df`; all of its terms."""

    def __init__(self, coefficients: FloatArray, covariance: FloatArray, df: float, maximise: bool) -> None:
        # In units in which the estimates are independent with variance 1.
        self._root = np.linalg.cholesky(covariance)
        self._estimate = np.linalg.solve(self._root, coefficients) * (-1.0 if maximise else 1.0)
        self._df = df

    def p(self, points: FloatArray) -> FloatArray:
        """P values (N,) of each point (N, 3) being the optimum."""
        return self._p(self._conditions(points))

    def accepts(self, points: FloatArray, level: float) -> NDArray[np.bool_]:
        """Which points (N, 3) have a p value of at least 1 − level."""
        parts = np.array_split(points, range(_CHUNK, len(points), _CHUNK))
        return np.concatenate([self._accepts(part, level) for part in parts])

    def _accepts(self, points: FloatArray, level: float) -> NDArray[np.bool_]:
        conditions = self._conditions(points)
        # The most violated condition bounds the distance from below, which rules out most points without the minimum.
        most = len(self._estimate) - 1  # no condition restricts a constant
        farthest = np.maximum(-(conditions @ self._estimate).min(axis=1), 0.0)
        inside = f_distribution.sf(farthest**2 / most, most, self._df) >= 1 - level
        inside[inside] = self._p(conditions[inside]) >= 1 - level
        return np.asarray(inside)

    def _conditions(self, points: FloatArray) -> FloatArray:
        """For each point the vectors (N, M, q) whose products with the estimate must be ≥ 0.

        They have length 1, or 0 if a condition is void.
        """
        terms = len(self._estimate)
        slopes = (np.eye(3) - points[:, None]) @ mixture_slopes(points, terms)  # towards the corners
        gains = mixture_terms(_COMPARED, terms) - mixture_terms(points, terms)[:, None]
        conditions = np.concatenate([slopes, gains], axis=1) @ self._root
        length = np.linalg.norm(conditions, axis=2, keepdims=True)
        void = length <= 1e-9 * length.max()
        return np.where(void, 0.0, conditions / np.where(void, 1.0, length))

    def _p(self, conditions: FloatArray) -> FloatArray:
        """P values (N,), from the part of the estimate outside the cone and the number of active conditions."""
        squared, active = np.zeros(len(conditions)), np.ones(len(conditions))
        for place in np.flatnonzero((conditions @ self._estimate < 0).any(axis=1)):
            multipliers, _ = nnls(-conditions[place].T, self._estimate)
            outside = conditions[place].T @ multipliers
            squared[place], active[place] = outside @ outside, max((multipliers > 0).sum(), 1)
        return np.asarray(f_distribution.sf(squared / active, active, self._df))
