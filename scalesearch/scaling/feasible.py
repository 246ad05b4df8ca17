"""The feasible set: every distinct integer network whose real macs lie within the tolerance of the budget.

All depth vectors, width vectors and resolutions that the rounding policy can reach are enumerated from
the points where a rounded value changes, combined, and counted as one matrix product (`complexity.count`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients, shares_of
from scalesearch.scaling.complexity import (
    Complexity,
    FloatArray,
    IntArray,
    Table,
    areas,
    complexity,
    count,
    tabulate,
)
from scalesearch.scaling.compound import Rounding, round_depths, round_widths, scale, spread_depth
from scalesearch.scaling.simplex import Shares

# Combinations counted at most; above it the axes are thinned evenly and the set says so.
MAX_COUNTED = 50_000_000
# Combinations held in memory at once (float64: 32 MB).
_CHUNK = 4_000_000


class InfeasibleBudget(Exception):
    """No network that the rounding policy can reach costs the budget; the message says what to loosen."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that costs the budget. `coefficients` are realised; `nominal` are multipliers that scale to it."""

    spec: ArchitectureSpec
    coefficients: Coefficients
    nominal: Coefficients
    complexity: Complexity
    macs_ratio: float

    @property
    def shares(self) -> Shares:
        """Shares of the realised coefficients."""
        return shares_of(self.coefficients)


@dataclass(frozen=True, slots=True)
class FeasibleSet:
    """Feasible networks as arrays; `candidate(i)` builds one. Rows run with depth, width, resolution.

    `index` (N, 3) points into `depths` (D, n), `widths` (W, n + 2) and `resolutions` (R); `shares`
    (N, 3) and `macs_ratio` (N,) are realised; `counted` of `combinations` were looked at (fewer where thinned).
    """

    baseline: ArchitectureSpec
    baseline_macs: int
    depths: IntArray
    widths: IntArray
    resolutions: IntArray
    nominal: tuple[FloatArray, FloatArray, FloatArray]
    index: NDArray[np.intp]
    shares: FloatArray
    macs_ratio: FloatArray
    counted: int
    combinations: int

    def __len__(self) -> int:
        return len(self.index)

    def candidate(self, row: int) -> Candidate:
        """The candidate of row `row`."""
        d, w, r = self.index[row].tolist()
        spec = self.baseline.with_sizes(
            tuple(self.depths[d].tolist()), tuple(self.widths[w].tolist()), int(self.resolutions[r])
        )
        alpha, beta, gamma = self.nominal
        nominal = Coefficients(float(alpha[d]), float(beta[w]), float(gamma[r]))
        return candidate_of(self.baseline, self.baseline_macs, spec, nominal)


def candidate_of(
    baseline: ArchitectureSpec, baseline_macs: int, spec: ArchitectureSpec, nominal: Coefficients
) -> Candidate:
    """The candidate for `spec`, with its realised coefficients and exact cost."""
    cost = complexity(spec)
    return Candidate(spec, realised(baseline, spec), nominal, cost, cost.macs / baseline_macs)


def realised(baseline: ArchitectureSpec, spec: ArchitectureSpec) -> Coefficients:
    """Blocks ÷ baseline blocks, geometric mean of the stages' width ratios, resolution ÷ baseline resolution."""
    ratios = [
        stage.width / base.width if stage.width != base.width else 1.0
        for stage, base in zip(spec.stages, baseline.stages, strict=True)
    ]
    return Coefficients(
        sum(spec.depths) / sum(baseline.depths),
        math.prod(ratios) ** (1 / len(ratios)),
        spec.resolution / baseline.resolution,
    )


def check_budget(budget: float, tolerance: float) -> None:
    """Raises `ValueError` unless budget > 1 and 0 < tolerance < 1."""
    if not (math.isfinite(budget) and budget > 1):
        raise ValueError(f"`budget` must be a number above 1 (a multiple of the baseline's macs), but got {budget:g}")
    if not 0 < tolerance < 1:
        raise ValueError(f"`tolerance` must be a fraction above 0 and below 1, but got {tolerance:g}")


def feasible_set(baseline: ArchitectureSpec, rounding: Rounding, budget: float, tolerance: float) -> FeasibleSet:
    """All distinct networks with |macs ÷ baseline macs ÷ `budget` − 1| ≤ `tolerance`, each coefficient ≥ 1.

    Raises `ValueError` for a budget or tolerance out of range, `InfeasibleBudget` for an empty set.
    """
    check_budget(budget, tolerance)
    base = complexity(baseline)
    highest = base.macs * budget * (1 + tolerance)

    def affordable(multipliers: Callable[[float], Coefficients]) -> float:
        """A multiplier that costs more than the budget by itself."""
        bound = 1.25
        while complexity(scale(baseline, multipliers(bound), rounding)).macs <= highest:
            bound *= 1.25
        return bound

    alpha, depths = _depths(baseline, rounding, affordable(lambda m: Coefficients(m, 1, 1)))
    beta, widths = _widths(baseline, rounding, affordable(lambda m: Coefficients(1, m, 1)))
    resolutions = _resolutions(baseline, rounding, affordable(lambda m: Coefficients(1, 1, m)))

    table = tabulate(baseline, widths).macs
    one_depth, one_area = depths[:1], areas(baseline, resolutions[:1])
    keep_w = count(table, one_depth, one_area)[0, :, 0] <= highest
    beta, widths, table = beta[keep_w], widths[keep_w], Table(table.fixed[keep_w], table.repeat[keep_w])
    first = Table(table.fixed[:1], table.repeat[:1])
    keep_d = count(first, depths, one_area)[:, 0, 0] <= highest
    alpha, depths = alpha[keep_d], depths[keep_d]
    resolutions = resolutions[count(first, one_depth, areas(baseline, resolutions))[0, 0] <= highest]

    combinations = len(depths) * len(widths) * len(resolutions)
    pick_d, pick_w, pick_r = _thinned((len(depths), len(widths), len(resolutions)))
    alpha, depths, beta, widths = alpha[pick_d], depths[pick_d], beta[pick_w], widths[pick_w]
    table, resolutions = Table(table.fixed[pick_w], table.repeat[pick_w]), resolutions[pick_r]

    index, ratio, nearest = _within(table, depths, areas(baseline, resolutions), base.macs * budget, tolerance)
    gamma = resolutions / baseline.resolution
    logs = np.stack(
        [
            np.log(depths.sum(axis=1) / sum(baseline.depths))[index[:, 0]],
            2 * np.log(widths[:, 1:-1] / np.array(baseline.widths[1:-1])).mean(axis=1)[index[:, 1]],
            2 * np.log(gamma)[index[:, 2]],
        ],
        axis=1,
    )
    grown = logs.sum(axis=1) > 1e-9  # the baseline itself, or a wider stem or head alone, has no shares
    index, logs, ratio = index[grown], logs[grown], ratio[grown]
    if len(index) == 0:
        raise InfeasibleBudget(_advice(budget, tolerance, base.macs, nearest, combinations, rounding))
    shares = logs / logs.sum(axis=1, keepdims=True)
    counted = len(depths) * len(widths) * len(resolutions)
    nominal = (alpha, beta, gamma)
    return FeasibleSet(
        baseline, base.macs, depths, widths, resolutions, nominal, index, shares, ratio * budget, counted, combinations
    )


def _midpoints(breakpoints: set[float]) -> list[float]:
    """1, and one multiplier between each two neighbours of `breakpoints`, all of which are above 1."""
    edges = [1.0, *sorted(breakpoints)]
    return [1.0, *((low + high) / 2 for low, high in itertools.pairwise(edges) if high - low > 1e-9)]


def _distinct(multipliers: list[float], rows: list[tuple[int, ...]]) -> tuple[FloatArray, IntArray]:
    """Rows without twins, each with the first multiplier that gives it."""
    first = dict(zip(reversed(rows), reversed(multipliers), strict=True))
    kept = dict.fromkeys(rows)
    return np.array([first[row] for row in kept]), np.array(list(kept), np.int64)


def _depths(baseline: ArchitectureSpec, rounding: Rounding, bound: float) -> tuple[FloatArray, IntArray]:
    total = sum(baseline.depths)
    if rounding.depth == "balanced":
        totals = range(total, math.ceil(bound * total) + 1)
        return _distinct([t / total for t in totals], [spread_depth(baseline.depths, t) for t in totals])
    shift = 0.0 if rounding.depth == "ceil" else 0.5
    breakpoints = {
        (blocks + shift) / depth
        for depth in set(baseline.depths)
        for blocks in range(depth, math.ceil(bound * depth) + 2)
        if (blocks + shift) / depth > 1
    }
    multipliers = _midpoints(breakpoints)
    return _distinct(multipliers, [round_depths(baseline.depths, m, rounding.depth) for m in multipliers])


def _widths(baseline: ArchitectureSpec, rounding: Rounding, bound: float) -> tuple[FloatArray, IntArray]:
    divisor = rounding.width_divisor
    breakpoints: set[float] = set()
    for width in set(baseline.widths) - {0}:
        for rounded in range(0, math.ceil(bound * width) + 2 * divisor, divisor):
            breakpoints.update(((rounded - divisor / 2) / width, rounded / (0.9 * width)))
    multipliers = _midpoints({point for point in breakpoints if point > 1})
    beta, widths = _distinct(multipliers, [round_widths(baseline.widths, m, rounding) for m in multipliers])
    grown = np.log(widths[:, 1:-1] / np.array(baseline.widths[1:-1])).mean(axis=1) >= 0
    return beta[grown], widths[grown]


def _resolutions(baseline: ArchitectureSpec, rounding: Rounding, bound: float) -> IntArray:
    step = rounding.resolution_step
    first = (baseline.resolution // step + 1) * step
    return np.array([baseline.resolution, *range(first, math.ceil(bound * baseline.resolution) + step, step)])


def _thinned(sizes: tuple[int, int, int]) -> tuple[IntArray, IntArray, IntArray]:
    """Evenly spaced indices of each axis, so that their combinations are at most `MAX_COUNTED`."""
    limits = list(sizes)
    while math.prod(limits) > MAX_COUNTED:
        longest = max(range(3), key=lambda i: limits[i])
        limits[longest] = limits[longest] * 9 // 10
    d, w, r = (
        np.unique(np.linspace(0, size - 1, limit).round().astype(np.int64))
        for size, limit in zip(sizes, limits, strict=True)
    )
    return d, w, r


def _within(
    table: Table, depths: IntArray, area: IntArray, target: float, tolerance: float
) -> tuple[NDArray[np.intp], FloatArray, float]:
    """Indices (N, 3) of the combinations within the tolerance of `target`, their ratios to it, the nearest ratio."""
    rows = max(1, _CHUNK // (len(table.fixed) * area.shape[1]))
    found: list[NDArray[np.intp]] = []
    ratios: list[FloatArray] = []
    nearest = math.inf
    for start in range(0, len(depths), rows):
        ratio = count(table, depths[start : start + rows], area) / target
        deviation = np.abs(ratio - 1)
        within = deviation <= tolerance
        found.append(np.argwhere(within) + np.array([start, 0, 0]))
        ratios.append(ratio[within])
        best = deviation.argmin()
        if deviation.flat[best] < abs(nearest - 1):
            nearest = float(ratio.flat[best])
    return np.concatenate(found), np.concatenate(ratios), nearest


def _advice(
    budget: float, tolerance: float, base_macs: int, nearest: float, combinations: int, rounding: Rounding
) -> str:
    needed = math.ceil(abs(nearest - 1) * 1e4 + 1e-6) / 1e4
    finer = [
        f"`{name}` to {value // 2}"
        for name, value in (("width_divisor", rounding.width_divisor), ("resolution_step", rounding.resolution_step))
        if value > 1
    ]
    return (
        f"no network costs {budget:g} × the baseline's {base_macs:,} macs within the tolerance {tolerance:g} "
        f"({combinations:,} counted); the nearest costs {nearest * budget:.4g}×: raise `tolerance` to {needed:g}"
        + (f", or lower {' and '.join(finer)}" if finer else "")
    )
