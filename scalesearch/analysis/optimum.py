"""The exact optimum of a response surface on the triangle, and where on it that lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from scalesearch.analysis.surfaces.base import PAIRS, FloatArray, Surface, SurfaceFit
from scalesearch.scaling.simplex import NAMES, Shares, lattice

# Shares below this are 0: the optimum is then said to lie on the edge.
_ON_EDGE = 1e-9
# Where Newton's method starts from in the special cubic model, and its steps.
_STARTS = 12
_STEPS = 30


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best point of a surface. `where` is interior, edge: no depth (and so on) or corner: all depth (and so on)."""

    shares: Shares
    where: str
    value: float
    standard_error: float


def optimum(fit: Surface, maximise: bool) -> Optimum:
    """The best point of the fitted surface on the triangle, for networks that cost the budget exactly.

    `maximise` for a metric of which more is better.
    """
    points = extremes(fit, maximise)
    values = fit.predict(points)
    best = points[(values.argmax if maximise else values.argmin)()]
    best = np.where(best < _ON_EDGE, 0.0, best)
    best = best / best.sum()
    value, error = fit.predict(best[None])[0], fit.standard_error(best[None])[0]
    return Optimum(Shares(*map(float, best)), describe(best), float(value), float(error))


@singledispatch
def extremes(fit: Surface, maximise: bool) -> FloatArray:
    """Points (N, 3) of the triangle, the best of which is the optimum of `fit`; each kind of surface finds its own."""
    raise NotImplementedError(type(fit).__name__)  # each kind of surface registers its own


@extremes.register
def _(fit: SurfaceFit, maximise: bool) -> FloatArray:
    """A polynomial's: the stationary points of the interior and of the edges, and the corners.

    In closed form but for the special cubic's interior ones (Newton's method from a lattice of starts).
    """
    del maximise
    return np.array([*np.eye(3), *_edge_points(fit), *_interior_points(fit)])


def describe(shares: FloatArray) -> str:
    """Where on the triangle `shares` (3,) lie, in plain words."""
    present = [name for name, share in zip(NAMES, shares.tolist(), strict=True) if share >= _ON_EDGE]
    if len(present) == 1:
        return f"corner: all {present[0]}"
    absent = [name for name in NAMES if name not in present]
    return f"edge: no {absent[0]}" if absent else "interior"


def _edge_points(fit: SurfaceFit) -> list[FloatArray]:
    """Along xᵢ = t, xⱼ = 1 − t the surface is bᵢt + bⱼ(1 − t) + bᵢⱼt(1 − t), still at t = (bᵢ − bⱼ + bᵢⱼ) ÷ 2bᵢⱼ."""
    points: list[FloatArray] = []
    for (i, j), pair in zip(PAIRS, fit.interaction.tolist(), strict=True):
        if pair == 0:
            continue
        t = (fit.linear[i] - fit.linear[j] + pair) / (2 * pair)
        if 0 < t < 1:
            point = np.zeros(3)
            point[i], point[j] = t, 1 - t
            points.append(point)
    return points


def _interior_points(fit: SurfaceFit) -> list[FloatArray]:
    """The stationary points of the surface on the plane Σx = 1 that are inside, by the multiplier's equations."""
    if fit.ternary:
        return _cubic_points(fit)
    system = np.zeros((4, 4))
    for (i, j), pair in zip(PAIRS, fit.interaction.tolist(), strict=True):
        system[i, j] = system[j, i] = pair
    system[:3, 3] = system[3, :3] = 1
    scale = max(float(np.abs(fit.interaction).max()), 1e-300)
    system[:3, :3] /= scale  # only the ratio of the terms matters; the constraint's rows stay as large as they
    if np.linalg.cond(system) > 1e12:
        return []  # a valley or ridge: it reaches an edge, where it is found
    point = np.linalg.solve(system, np.array([*(-fit.linear / scale), 1.0]))[:3]
    return [point] if (point > 0).all() else []


def _cubic_points(fit: SurfaceFit) -> list[FloatArray]:
    """Newton's method on the slopes along two directions of the plane, from all starts at once."""
    along = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    points = np.array([p.values for p in lattice(_STARTS) if min(p.values) > 0])
    coefficients = fit.mixture_coefficients[0]
    for _ in range(_STEPS):
        slope = fit.gradient_terms(points) @ coefficients @ along.T
        curvature = np.zeros((len(points), 3, 3))
        for (i, j), pair in zip(PAIRS, fit.interaction.tolist(), strict=True):
            curvature[:, i, j] = curvature[:, j, i] = pair + fit.ternary * points[:, 3 - i - j]
        hessian = along @ curvature @ along.T
        solvable = np.abs(np.linalg.det(hessian)) > 1e-300
        step = np.zeros_like(slope)
        step[solvable] = np.linalg.solve(hessian[solvable], slope[solvable][..., None])[..., 0]
        points = points - np.clip(step, -0.1, 0.1) @ along
    slope = fit.gradient_terms(points) @ coefficients @ along.T
    still = np.abs(slope).max(axis=1) <= 1e-9 * max(float(np.abs(coefficients).max()), 1e-300)
    return list(points[still & (points > 0).all(axis=1)])
