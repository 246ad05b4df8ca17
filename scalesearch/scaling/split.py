"""How the real cost of a network splits into what its depth, its width and its resolution multiply it by.

ln(cost ÷ baseline cost) is the sum of three parts. Each part is what growing its dimension adds to the logarithm of
cost, averaged over the orders in which the three can be grown: the Shapley value. It is the only split that adds up,
treats the dimensions alike, and gives nothing to one that leaves the cost unchanged. So a network in which one
dimension alone has grown lies in its corner, whatever the stem, the head or the size of the maps do to the cost.

Source: L. S. Shapley, "A value for n-person games", Contributions to the Theory of Games II (1953).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.budgeted import MACS, Cost
from scalesearch.scaling.cost.count import FloatArray, areas, count, tabulate
from scalesearch.scaling.simplex import EQUAL, Shares

# Of the orders of three dimensions, those in which none, one or both of the others were grown before a dimension.
_WEIGHTS = np.array([[1 / 3, 1 / 6], [1 / 6, 1 / 3]])


def log_parts(costs: FloatArray) -> FloatArray:
    """Parts (..., 3) of ln(cost ratio): those of depth, width and resolution.

    Args:
        costs: costs (2, 2, 2, ...), above 0: [deepened?, widened?, enlarged?], 0 for no and 1 for yes.

    >>> log_parts(np.array([[[1.0, 1], [4, 4]], [[2, 2], [8, 8]]])).round(3)  # resolution costs nothing
    array([0.693, 1.386, 0.   ])
    """
    logs = np.log(costs)
    steps = (np.diff(logs, axis=axis).squeeze(axis) for axis in range(3))
    return np.stack([np.tensordot(_WEIGHTS, step, axes=2) for step in steps], axis=-1)


def shares_of_parts(parts: FloatArray) -> FloatArray:
    """Shares (..., 3) of `parts` (..., 3): each over their sum, which is below 0 for a network that has shrunk.

    A part against the sum, which rounding can leave in a network whose other dimensions grew, counts as none. Equal
    shares where the sum is 0, as it is for the baseline.
    """
    total = parts.sum(axis=-1, keepdims=True)
    towards = np.maximum(parts * np.sign(total), 0.0)
    scale = towards.sum(axis=-1, keepdims=True)
    return np.where(scale > 0, towards / np.where(scale > 0, scale, 1.0), 1 / 3)


def split_costs(costs: FloatArray, shallow: FloatArray, index: NDArray[np.intp]) -> FloatArray:
    """Shares (N, 3) of the real cost of many networks.

    Args:
        costs: costs (D, W, R) of all combinations of three axes. Row 0 of W and of R is the baseline's.
        shallow: costs (W, R) with the baseline's depths.
        index: places (N, 3) of the networks in `costs`.
    """
    d, w, r = index.T
    zero = np.zeros_like(d)
    grown = [[costs[d, w_or_0, r_or_0] for r_or_0 in (zero, r)] for w_or_0 in (zero, w)]
    before = [[shallow[w_or_0, r_or_0] for r_or_0 in (zero, r)] for w_or_0 in (zero, w)]
    return shares_of_parts(log_parts(np.array([before, grown])))


def split_cost(baseline: ArchitectureSpec, spec: ArchitectureSpec, cost: Cost = MACS) -> Shares:
    """The shares of the real cost of `spec` against `baseline`, grown or shrunk; equal ones for the baseline.

    Args:
        baseline: the network that was scaled.
        spec: the same network with other depths, widths and resolution.
        cost: what the budget counts.

    >>> from scalesearch.baselines.published import baseline
    >>> resnet_18, resnet_34 = (baseline(f"resnet-{layers}").spec for layers in (18, 34))
    >>> split_cost(resnet_18, resnet_34)
    Shares(depth=1.0, width=0.0, resolution=0.0)
    >>> larger = resnet_34.with_sizes(resnet_34.depths, resnet_34.widths, 288)
    >>> [round(share, 3) for share in split_cost(resnet_18, larger).values]
    [0.583, 0.0, 0.417]
    """
    table = cost.table(tabulate(baseline, np.array([baseline.widths, spec.widths], np.int64)))
    area = areas(baseline, np.array([baseline.resolution, spec.resolution], np.int64))
    costs = count(table, np.array([baseline.depths, spec.depths], np.int64), area)
    if (costs == costs[0, 0, 0]).all():
        return EQUAL
    return Shares(*shares_of_parts(log_parts(costs)).tolist())
