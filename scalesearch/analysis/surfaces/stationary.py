"""The stationary points of a mixture polynomial on the triangle, in closed form where there is one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scalesearch.analysis.statistics import FloatArray
from scalesearch.analysis.surfaces.mixture import PAIRS, mixture_slopes
from scalesearch.scaling.simplex import lattice

# The special cubic: Newton's method starts from the inner points of this lattice and takes this many steps.
_STARTS = 12
_NEWTON_STEPS = 30


def stationary_points(coefficients: FloatArray) -> FloatArray:
    """The corners, and the stationary points of the edges and of the interior (N, 3).

    `coefficients` (q,) are those of the terms of `mixture.TERMS`, for q = 3, 6 or 7. One of the points is the minimum,
    and one is the maximum.
    """
    terms = np.zeros(7)
    terms[: len(coefficients)] = coefficients
    linear, pairs, ternary = terms[:3], terms[3:6], float(terms[6])
    interior = _cubic_interior(coefficients, pairs, ternary) if ternary else _quadratic_interior(linear, pairs)
    return np.array([*np.eye(3), *_edge_points(linear, pairs), *interior])


def _edge_points(linear: FloatArray, pairs: FloatArray) -> Iterator[FloatArray]:
    """Along xᵢ = t, xⱼ = 1 − t the surface is bᵢt + bⱼ(1 − t) + bᵢⱼt(1 − t): stationary at (bᵢ − bⱼ + bᵢⱼ) ÷ 2bᵢⱼ."""
    for (i, j), pair in zip(PAIRS, pairs.tolist(), strict=True):
        if pair == 0:
            continue
        t = (linear[i] - linear[j] + pair) / (2 * pair)
        if 0 < t < 1:
            point = np.zeros(3)
            point[i], point[j] = t, 1 - t
            yield point


def _quadratic_interior(linear: FloatArray, pairs: FloatArray) -> list[FloatArray]:
    """The stationary point on the plane Σx = 1, by the equations with a Lagrange multiplier, if it is inside."""
    system = np.zeros((4, 4))
    for (i, j), pair in zip(PAIRS, pairs.tolist(), strict=True):
        system[i, j] = system[j, i] = pair
    system[:3, 3] = system[3, :3] = 1
    # Only the ratio of the terms matters: scaled, they are as large as the rows of the constraint.
    scale = max(float(np.abs(pairs).max()), 1e-300)
    system[:3, :3] /= scale
    if np.linalg.cond(system) > 1e12:
        return []  # a valley or a ridge: it reaches an edge, and its best point is an edge point
    point = np.linalg.solve(system, np.array([*(-linear / scale), 1.0]))[:3]
    return [point] if (point > 0).all() else []


def _cubic_interior(coefficients: FloatArray, pairs: FloatArray, ternary: float) -> list[FloatArray]:
    """Newton's method on the slopes along two directions of the plane, from all starts at once."""
    along = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    points = np.array([p.values for p in lattice(_STARTS) if min(p.values) > 0])
    for _ in range(_NEWTON_STEPS):
        slope = mixture_slopes(points, 7) @ coefficients @ along.T
        curvature = np.zeros((len(points), 3, 3))
        for (i, j), pair in zip(PAIRS, pairs.tolist(), strict=True):
            curvature[:, i, j] = curvature[:, j, i] = pair + ternary * points[:, 3 - i - j]
        hessian = along @ curvature @ along.T
        solvable = np.abs(np.linalg.det(hessian)) > 1e-300
        step = np.zeros_like(slope)
        step[solvable] = np.linalg.solve(hessian[solvable], slope[solvable][..., None])[..., 0]
        points = points - np.clip(step, -0.1, 0.1) @ along
    slope = mixture_slopes(points, 7) @ coefficients @ along.T
    stationary = np.abs(slope).max(axis=1) <= 1e-9 * max(float(np.abs(coefficients).max()), 1e-300)
    return list(points[stationary & (points > 0).all(axis=1)])
