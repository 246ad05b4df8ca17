"""The feasible set: every distinct integer network whose real cost lies within the tolerance of the budget.

All depth vectors, width vectors and resolutions that the rounding policy can reach (`reachable`) are
combined and counted as one matrix product (`cost.count`), which also says what each dimension alone
and each two of them would cost, and so the shares of real cost (`split`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Rounding
from scalesearch.scaling.cost.budgeted import MACS, Cost
from scalesearch.scaling.cost.count import LARGEST_EXACT, Complexity, FloatArray, complexity
from scalesearch.scaling.cost.tally import IntArray
from scalesearch.scaling.reachable import Axes, reachable, with_distinct_maps
from scalesearch.scaling.simplex import Shares
from scalesearch.scaling.within import Combinations

# Combinations counted at most; above it the axes are thinned evenly and the set says so.
MAX_COUNTED = 50_000_000
# Combinations whose networks get their shares at once.
CHUNK = 4_000_000

# Above it the axes alone would fill the memory, and nobody trains networks that large.
MAX_BUDGET = 100_000


class InfeasibleBudget(InputError):
    """No network that the rounding policy can reach costs the budget; the message says what to loosen."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that costs the budget.

    `coefficients` are realised: what blocks, widths and pixels were multiplied by. `shares` are those of real cost
    (`split.split_cost`). `nominal` are multipliers that scale to the network.
    The baseline itself is one at a budget of 1, with equal shares.
    """

    spec: ArchitectureSpec
    coefficients: Coefficients
    shares: Shares
    nominal: Coefficients
    complexity: Complexity
    cost_ratio: float

    @property
    def is_baseline(self) -> bool:
        """Whether this is the baseline: nothing has grown."""
        return self.coefficients == Coefficients(1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class FeasibleSet:
    """Feasible networks as arrays; `candidate(i)` builds one. Rows are in order of depth, width, resolution.

    `index` (N, 3) points into `depths` (D, n), `widths` (W, n + 2) and `resolutions` (R); `shares`
    (N, 3) are those of real cost, `cost_ratio` (N,) is exact. `counted` of `combinations` had their cost counted
    (fewer if thinned).
    """

    baseline: ArchitectureSpec
    rounding: Rounding
    cost: Cost
    baseline_cost: int
    depths: IntArray
    widths: IntArray
    resolutions: IntArray
    nominal: tuple[FloatArray, FloatArray, FloatArray]
    index: NDArray[np.intp]
    shares: FloatArray
    cost_ratio: FloatArray
    counted: int
    combinations: int

    def __len__(self) -> int:
        return len(self.index)

    def without_twins(self) -> FeasibleSet:
        """The networks that compute differently.

        Of those that differ in resolution alone and have the same maps in every layer (225 and 226 px with a
        stem of stride 2), one stays: it stands for all, and no design trains it twice.
        """
        kept = with_distinct_maps(self.baseline, self.resolutions)[self.index[:, 2]]
        return replace(self, index=self.index[kept], shares=self.shares[kept], cost_ratio=self.cost_ratio[kept])

    def candidate(self, row: int) -> Candidate:
        """The candidate of row `row`."""
        d, w, r = self.index[row].tolist()
        spec = self.baseline.with_sizes(
            tuple(self.depths[d].tolist()), tuple(self.widths[w].tolist()), int(self.resolutions[r])
        )
        alpha, beta, gamma = self.nominal
        nominal = Coefficients(float(alpha[d]), float(beta[w]), float(gamma[r]))
        shares = Shares(*self.shares[row].tolist())
        return candidate_of(self.baseline, self.rounding, self.baseline_cost, spec, nominal, shares, self.cost)

    def log_distances(self, target: Shares, budget: float) -> FloatArray:
        """Distance (N,) of each network from `target` in the logarithm of cost.

        The shares' distance times ln B, and the distance of ln(cost ratio) from ln B, in quadrature.
        """
        apart = np.linalg.norm(self.shares - np.array(target.values), axis=1) * math.log(budget)
        return np.asarray(np.hypot(apart, np.log(self.cost_ratio / budget)))

    def nearest(self, target: Shares, budget: float) -> Candidate:
        """The candidate nearest to `target`; of two with the same shares the one that costs the budget more exactly."""
        return self.candidate(int(self.log_distances(target, budget).argmin()))


def candidate_of(
    baseline: ArchitectureSpec,
    rounding: Rounding,
    baseline_cost: int,
    spec: ArchitectureSpec,
    nominal: Coefficients,
    shares: Shares,
    cost: Cost,
) -> Candidate:
    """The candidate for `spec`, with its realised coefficients and exact cost."""
    counted, ratios = complexity(spec), realised(baseline, spec, rounding)
    return Candidate(spec, ratios, shares, nominal, counted, cost.amount(counted) / baseline_cost)


def realised(baseline: ArchitectureSpec, spec: ArchitectureSpec, rounding: Rounding) -> Coefficients:
    """Blocks ÷ baseline blocks, geometric mean of the stages' width ratios, resolution ÷ baseline resolution.

    Of the stages that `rounding` scales: what stays fixed says nothing about a multiplier.
    """
    pairs = list(zip(spec.widths[1:-1], baseline.widths[1:-1], strict=True))
    ratios = [width / before if width != before else 1.0 for width, before in pairs[rounding.widened]]
    return Coefficients(
        sum(spec.depths[rounding.deepened]) / sum(baseline.depths[rounding.deepened]),
        math.prod(ratios) ** (1 / len(ratios)),
        spec.resolution / baseline.resolution,
    )


def check_budget(budget: float, tolerance: float) -> None:
    """Raises `ValueError` unless 1 < budget ≤ `MAX_BUDGET` and 0 < tolerance < 1."""
    if not 1 < budget <= MAX_BUDGET:
        raise ValueError(
            f"`budget` must be a number above 1 and at most {MAX_BUDGET:,} (a multiple of the baseline's cost), "
            f"but got {budget:g}"
        )
    if not 0 < tolerance < 1:
        raise ValueError(f"`tolerance` must be a fraction above 0 and below 1, but got {tolerance:g}")


def feasible_set(
    baseline: ArchitectureSpec,
    rounding: Rounding,
    budget: float,
    tolerance: float,
    cost: Cost = MACS,
    *,
    max_counted: int = MAX_COUNTED,
    chunk: int = CHUNK,
) -> FeasibleSet:
    """All distinct networks with |cost ÷ baseline cost ÷ `budget` − 1| ≤ `tolerance`, each coefficient ≥ 1.

    Above `max_counted` combinations the axes are thinned evenly. Networks of `chunk` combinations at a time get
    their shares.

    Raises `ValueError` for a budget or tolerance out of range, `InfeasibleBudget` for an empty set.
    """
    check_budget(budget, tolerance)
    base = cost.of(baseline)
    if base * budget * (1 + tolerance) > LARGEST_EXACT:
        raise InputError(
            f"`budget` times the baseline's {base:,} {cost.name} must be at most {LARGEST_EXACT:.2g}, above which "
            f"costs are not exact, but got {budget:g}: take a smaller baseline or budget"
        )
    axes = reachable(baseline, rounding, base * budget * (1 + tolerance), cost)
    combinations = math.prod(axes.shape)
    axes = axes.take(*_thinned(axes.shape, max_counted))
    combined = Combinations(baseline, axes, cost, _not_widened(baseline, rounding, axes))
    found = combined.within(base * budget, tolerance, chunk)
    if len(found.index) == 0:
        raise InfeasibleBudget(_advice(baseline, rounding, budget, tolerance, combinations, cost))
    return FeasibleSet(
        baseline=baseline,
        rounding=rounding,
        cost=cost,
        baseline_cost=base,
        depths=axes.depths,
        widths=axes.widths,
        resolutions=axes.resolutions,
        nominal=(axes.alpha, axes.beta, axes.gamma),
        index=found.index,
        shares=found.shares,
        cost_ratio=found.costs / (base * budget) * budget,
        counted=math.prod(axes.shape),
        combinations=combinations,
    )


def _not_widened(baseline: ArchitectureSpec, rounding: Rounding, axes: Axes) -> NDArray[np.bool_]:
    """Which rows (W,) of widths have stages as wide as the baseline's, in the geometric mean."""
    ratios = axes.widths[:, 1:-1] / np.array(baseline.widths[1:-1])
    return np.asarray(np.abs(np.log(ratios[:, rounding.widened]).mean(axis=1)) < 1e-12)


def _thinned(shape: tuple[int, int, int], max_counted: int = MAX_COUNTED) -> tuple[IntArray, IntArray, IntArray]:
    """Evenly spaced indices of each axis, so that their combinations are at most `max_counted`."""
    limits = list(shape)
    while math.prod(limits) > max_counted:
        longest = max(range(3), key=lambda i: limits[i])
        limits[longest] = limits[longest] * 9 // 10
    d, w, r = (
        np.unique(np.linspace(0, size - 1, limit).round().astype(np.int64))
        for size, limit in zip(shape, limits, strict=True)
    )
    return d, w, r


def _advice(
    baseline: ArchitectureSpec, rounding: Rounding, budget: float, tolerance: float, combinations: int, cost: Cost
) -> str:
    """What to loosen, and by how much; the nearest network is looked for up to twice the budget."""
    base = cost.of(baseline)
    axes = reachable(baseline, rounding, 2 * base * budget, cost)
    thinned = axes.take(*_thinned(axes.shape))
    combined = Combinations(baseline, thinned, cost, _not_widened(baseline, rounding, thinned))
    nearest = combined.nearest(base * budget)
    needed = math.ceil(abs(nearest - 1) * 1e4 + 1e-6) / 1e4 if math.isfinite(nearest) else math.inf
    ways = [f"raise `tolerance` to {needed:g}"] if needed < 1 else ["raise `budget`"]
    ways += [
        f"lower `{name}` to {value // 2}"
        for name, value in (("width_divisor", rounding.width_divisor), ("resolution_step", rounding.resolution_step))
        if value > 1
    ]
    nearest_text = f"the nearest costs {nearest * budget:.7g}×" if needed < 1 else f"none costs below {2 * budget:g}×"
    return (
        f"no network costs {budget:g} × the baseline's {base:,} {cost.name} within the tolerance {tolerance:g} "
        f"({combinations:,} counted); {nearest_text}: {', or '.join(ways)}"
    )
