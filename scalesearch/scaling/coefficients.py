"""The three multipliers of compound scaling, and their shares of a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scalesearch.scaling.simplex import Shares


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Depth ×alpha, width ×beta, resolution ×gamma, all above 0 (arXiv:1905.11946 §3.3)."""

    alpha: float
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be a finite number above 0, but got {value!r}")

    @property
    def product(self) -> float:
        """Nominal cost α·β²·γ² as a multiple of the baseline's."""
        return self.alpha * self.beta**2 * self.gamma**2

    def __pow__(self, phi: float) -> Coefficients:
        """(α^φ, β^φ, γ^φ), the multipliers of the family's member φ."""
        return Coefficients(self.alpha**phi, self.beta**phi, self.gamma**phi)


def coefficients_of(shares: Shares, budget: float) -> Coefficients:
    """α = B^depth, β = B^(width/2), γ = B^(resolution/2), so that α·β²·γ² = B."""
    return Coefficients(
        budget**shares.depth,
        budget ** (shares.width / 2),
        budget ** (shares.resolution / 2),
    )


def shares_of(coefficients: Coefficients) -> Shares:
    """The logarithm of each factor of α·β²·γ², over their sum; if the product is a budget, these are its shares.

    Raises `ValueError` unless all coefficients are ≥ 1 and one is above 1.
    """
    logs = (math.log(coefficients.alpha), 2 * math.log(coefficients.beta), 2 * math.log(coefficients.gamma))
    if min(logs) < -1e-9 or max(logs) <= 0:
        raise ValueError(f"shares need coefficients of at least 1, one of them above, but got {coefficients}")
    depth, width, resolution = (max(value, 0.0) for value in logs)
    total = depth + width + resolution
    return Shares(depth / total, width / total, resolution / total)
