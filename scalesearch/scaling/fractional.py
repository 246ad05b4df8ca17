"""Networks of fractions of blocks, channels and pixels: what they cost, and where a cost is split as asked.

Costs are linear in depths and areas, and quadratic in the multiplier of all widths, which three whole multiples fix.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Rounding, round_widths
from scalesearch.scaling.cost.budgeted import Cost
from scalesearch.scaling.cost.count import FloatArray, areas, tabulate
from scalesearch.scaling.simplex import Shares
from scalesearch.scaling.split import log_parts

_ROUNDS = 60
_CLOSE = 1e-6
_STEP_OF_SLOPES = 1e-3
# No multiplier is changed by more than this factor at once.
_STEP = math.log(4)


class FractionalCosts:
    """The costs of a baseline scaled by any multipliers, before rounding.

    Args:
        baseline: the network.
        rounding: which stages and ends are scaled.
        cost: what is counted.
        grown: whether widths are multiplied by more than 1, which a head that `grows` follows alone.
    """

    def __init__(self, baseline: ArchitectureSpec, rounding: Rounding, cost: Cost, *, grown: bool) -> None:
        head = rounding.head if rounding.head != "grows" else "scaled" if grown else "fixed"
        exact = dataclasses.replace(rounding, width_divisor=1, head=head)
        widths = np.array([round_widths(baseline.widths, times, exact) for times in (1, 2, 3)], np.int64)
        self._table = cost.table(tabulate(baseline, widths)).astype(np.float64)
        self._baseline = baseline
        self._area = areas(baseline, np.array([baseline.resolution]))[:, 0].astype(np.float64)
        self._depths = np.array(baseline.depths, np.float64)
        self._deepened = rounding.deepened
        self._least = 1 / max(baseline.depths), 1 / max(baseline.widths), 1 / baseline.resolution

    def corners(self, logs: FloatArray, resolution: int | None = None) -> FloatArray:
        """Costs (2, 2, 2) of the multipliers e^`logs` (3,): [deepened?, widened?, enlarged?], as `log_parts` takes.

        With a `resolution` the maps are those of so many whole pixels.
        """
        alpha, beta, gamma = np.exp(logs)
        blocks = np.array([self._depths, self._depths])
        blocks[1, self._deepened] = np.maximum(1, alpha * blocks[1, self._deepened])
        weights = np.insert(blocks - 1, 0, 1.0, axis=1)
        area = np.stack([self._area, self._area * gamma**2], axis=1)
        area[-1] = 1  # the pooled vector
        if resolution is not None:
            area[:, 1] = areas(self._baseline, np.array([resolution]))[:, 0]
        quadratic = np.array(
            [[(b - 2) * (b - 3) / 2, -(b - 1) * (b - 3), (b - 1) * (b - 2) / 2] for b in (1.0, float(beta))]
        )
        costs: FloatArray = np.einsum("dn,bk,knl,lr->dbr", weights, quadratic, self._table, area, optimize=True)
        return np.maximum(costs, 1.0)

    def slopes(self, point: Coefficients) -> tuple[float, float, float]:
        """What each part of ln(cost ratio) gains where the logarithm of its own multiplier does, at `point`."""
        logs = np.log(dataclasses.astuple(point))
        before = log_parts(self.corners(logs))
        depth, width, resolution = (
            float(log_parts(self.corners(logs + step))[axis] - before[axis]) / _STEP_OF_SLOPES
            for axis, step in enumerate(np.eye(3) * _STEP_OF_SLOPES)
        )
        return depth, width, resolution

    def split(self, shares: Shares, log_cost: float, largest: int | None = None) -> tuple[Coefficients, Shares]:
        """The multipliers whose parts of ln(cost ratio) are `shares` times `log_cost`, and these shares.

        Where the resolution would be above `largest` it stays there, and depth and width take the rest in proportion to
        their shares. Where no multipliers have such parts, those that come near: none leaves less than a block, a
        channel and a pixel.
        """
        wanted = np.array(shares.values)
        least = np.log(self._least)
        cap = math.inf if largest is None else math.log(largest / self._baseline.resolution)
        logs = wanted * log_cost / np.array([1, 2, 2])
        for _ in range(_ROUNDS):
            logs[2] = min(logs[2], cap)
            parts = log_parts(self.corners(logs, largest if logs[2] == cap else None))
            if logs[2] == cap and parts[2] <= wanted[2] * log_cost:
                wanted = _without(np.array(shares.values), float(parts[2]) / log_cost)
            asked = wanted * log_cost
            off = np.where(asked == 0, 0.0, parts - asked)
            if np.abs(off).max() < _CLOSE:
                break
            # Each part is nearly proportional to the logarithm of its own multiplier.
            ratio = np.where((asked != 0) & (parts * asked > 0), asked / np.where(parts == 0, 1, parts), 1.0)
            moved = np.where(asked == 0, 0.0, np.where(logs == 0, asked / 2, logs * np.clip(ratio, 0.25, 4)))
            logs = np.maximum(logs + np.clip(moved - logs, -_STEP, _STEP), least)
        return Coefficients(*np.exp(logs).tolist()), Shares(*wanted.tolist())


def _without(shares: FloatArray, resolution: float) -> FloatArray:
    """`shares` (3,) with the share of resolution given, the others raised in proportion; equally if both are 0."""
    others = shares[:2] if shares[:2].sum() > 0 else np.ones(2)
    resolution = min(max(resolution, 0.0), 1.0)
    depth, width = others / others.sum() * (1 - resolution)
    return np.array([depth, width, resolution])
