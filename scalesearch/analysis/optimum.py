"""The optimum of a response surface on the triangle, and where on the triangle it is."""

from __future__ import annotations

import numpy as np

from scalesearch.analysis.surfaces.base import Surface
from scalesearch.scaling.simplex import NAMES, Shares

# A share below this counts as 0: the optimum is on an edge.
_ON_EDGE = 1e-9


def optimum(surface: Surface, maximise: bool) -> Shares:
    """The best point of `surface` for networks that cost the budget exactly.

    `maximise` says that a greater metric is better.
    """
    points = surface.optimum_candidates(maximise)
    values = surface.predict(points)
    best = points[(values.argmax if maximise else values.argmin)()]
    best = np.where(best < _ON_EDGE, 0.0, best)
    return Shares(*map(float, best / best.sum()))


def where(shares: Shares) -> str:
    """Whether `shares` are in the interior, on an edge or in a corner of the triangle.

    >>> where(Shares(0.2, 0.5, 0.3)), where(Shares(0.0, 0.5, 0.5)), where(Shares(0.0, 1.0, 0.0))
    ('interior', 'edge: no depth', 'corner: all width')
    """
    present = [name for name, share in zip(NAMES, shares.values, strict=True) if share >= _ON_EDGE]
    if len(present) == 1:
        return f"corner: all {present[0]}"
    absent = [name for name in NAMES if name not in present]
    return f"edge: no {absent[0]}" if absent else "interior"
