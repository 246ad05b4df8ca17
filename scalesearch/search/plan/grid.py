"""The paper's grid of coefficients around a budget."""

from __future__ import annotations

import math

import numpy as np

from scalesearch.errors import InputError
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.cost.count import FloatArray
from scalesearch.scaling.feasible import InfeasibleBudget
from scalesearch.study.sections import DesignSection

# A grid has at most this many points.
MAX_GRID = 2_000_000
# Of these, within the band; in a nominal grid each is a trial.
MAX_KEPT, MAX_NOMINAL = 100_000, 20_000


def grid(budget: float, design: DesignSection) -> tuple[tuple[Coefficients, ...], int]:
    """The points of a grid whose product α·β²·γ² is the budget within `band`, and the number of all grid points.

    α runs from 1 to B, β and γ from 1 to √B, which is all that the budget buys for one dimension.
    Source: EfficientNet, arXiv:1905.11946, §3.3.

    Raises:
        InputError: if the grid has more points than `MAX_GRID`, or more within its band than `MAX_KEPT` or
            `MAX_NOMINAL`.
        InfeasibleBudget: if no point has such a product.
    """
    alpha, side = _axis(budget, design.step), _axis(math.sqrt(budget), design.step)
    size = len(alpha) * len(side) ** 2
    if size > MAX_GRID:
        raise InputError(
            f"a grid must have at most {MAX_GRID:,} points, but `design.step` {design.step:g} at budget {budget:g} "
            f"gives {size:,}: raise the step, or take the lattice"
        )
    product = alpha[:, None, None] * (side**2)[:, None] * side**2
    deviation = np.abs(product / budget - 1)
    deviation[0, 0, 0] = math.inf  # the baseline has no shares
    kept = np.argwhere(deviation <= design.band + 1e-9)
    if not len(kept):
        needed = math.ceil(float(deviation.min()) * 1e4) / 1e4 if np.isfinite(deviation).any() else math.inf
        raise InfeasibleBudget(
            f"a grid needs a point with α·β²·γ² within {design.band:.2%} of {budget:g}, but none of the {size:,} "
            f"with `design.step` {design.step:g} is: "
            + (f"raise `design.band` to {needed:g}, or lower `design.step`" if needed < 1 else "lower `design.step`")
        )
    most = MAX_NOMINAL if design.nominal else MAX_KEPT
    if len(kept) > most:
        raise InputError(
            f"a grid must have at most {most:,} points within its band, but `design.step` {design.step:g} and "
            f"`design.band` {design.band:g} give {len(kept):,}: raise the step, lower the band, or take the lattice"
        )
    points = tuple(Coefficients(float(alpha[a]), float(side[b]), float(side[c])) for a, b, c in kept.tolist())
    return points, size


def _axis(highest: float, step: float) -> FloatArray:
    return np.asarray(1 + step * np.arange(math.floor((highest - 1) / step + 1e-9) + 1, dtype=np.float64))
