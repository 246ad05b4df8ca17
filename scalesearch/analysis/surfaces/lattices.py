"""Lattices of the triangle as arrays: of any fineness, on the whole triangle or on a part of it."""

from __future__ import annotations

import numpy as np

from scalesearch.analysis.statistics import FloatArray

# How far around a point `lattice_around` reaches, in lattice steps.
_REACH = 6


def lattice_between(steps: int, low: FloatArray, high: FloatArray) -> FloatArray:
    """The points (N, 3) of the {3, steps} lattice with shares between `low` and `high` (3,)."""
    first = np.maximum(np.ceil(low * steps), 0).astype(int)
    last = np.minimum(np.floor(high * steps), steps).astype(int)
    depth, width = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first[:2], last[:2], strict=True)), indexing="ij")
    resolution = steps - depth - width
    kept = (resolution >= first[2]) & (resolution <= last[2])
    return np.stack([depth[kept], width[kept], resolution[kept]], axis=1) / steps


def lattice_around(points: FloatArray, steps: int) -> FloatArray:
    """The points (M, 3) of the {3, steps} lattice up to six steps of depth and of width away from `points` (N, 3)."""
    reach = range(-_REACH, _REACH + 1)
    moves = np.array([(depth, width) for depth in reach for width in reach])
    cells = np.unique((np.rint(points[:, :2] * steps)[:, None] + moves).reshape(-1, 2), axis=0)
    near = np.column_stack([cells, steps - cells.sum(axis=1)])
    return np.asarray(near[(near >= 0).all(axis=1)] / steps)
