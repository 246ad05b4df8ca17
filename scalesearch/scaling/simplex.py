"""The triangle of shares: depth + width + resolution = 1, all at least 0."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAMES = ("depth", "width", "resolution")
# Distance in shares beyond which a candidate says little about a point: half the {3, 5} lattice's spacing, √2 ÷ 10.
FAR = 0.15


@dataclass(frozen=True, slots=True)
class Shares:
    """How a budget is split: shares of its logarithm for depth, width and resolution, at least 0, sum 1."""

    depth: float
    width: float
    resolution: float

    def __post_init__(self) -> None:
        values = (self.depth, self.width, self.resolution)
        if not (all(math.isfinite(v) and v >= 0 for v in values) and abs(sum(values) - 1) < 1e-9):
            raise ValueError(f"shares must be at least 0 and sum to 1, but got {values}")

    @property
    def values(self) -> tuple[float, float, float]:
        """(depth, width, resolution)."""
        return (self.depth, self.width, self.resolution)

    @property
    def depth_share(self) -> float:
        """First search parameter, in [0, 1]: the share of depth."""
        return self.depth

    @property
    def width_fraction(self) -> float:
        """Second search parameter, in [0, 1]: width's part of what depth leaves (½ if it leaves nothing)."""
        rest = self.width + self.resolution
        return self.width / rest if rest > 0 else 0.5


EQUAL = Shares(1 / 3, 1 / 3, 1 / 3)


def from_search_space(depth_share: float, width_fraction: float) -> Shares:
    """The shares of the two search parameters, both in [0, 1]."""
    rest = 1 - depth_share
    width = rest * width_fraction
    return Shares(depth_share, width, max(0.0, 1 - depth_share - width))


def lattice(degree: int) -> tuple[Shares, ...]:
    """The {3, m} simplex lattice: all shares that are multiples of 1/m, (m + 1)(m + 2)/2 of them.

    Source: Scheffé, "Experiments with mixtures", J. R. Stat. Soc. B 20 (1958).
    """
    if degree < 1:
        raise ValueError(f"`degree` must be at least 1, but got {degree}")
    return tuple(
        Shares(depth / degree, width / degree, (degree - depth - width) / degree)
        for depth in range(degree + 1)
        for width in range(degree + 1 - depth)
    )


def from_unit_square(points: NDArray[np.float64]) -> tuple[Shares, ...]:
    """Uniform points (N, 2) of the unit square carried to uniform points of the triangle.

    (u, v) ↦ (1 − √u, √u·v, √u·(1 − v)): depth's density falls linearly, as the triangle's width does.
    """
    return tuple(from_search_space(1 - math.sqrt(u), v) for u, v in points.tolist())
