"""The chosen rule. `export.rule_json` writes and reads it as coefficients.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scalesearch.scaling.coefficients import Coefficients, shares_of
from scalesearch.scaling.compound import Baseline, Rounding
from scalesearch.scaling.simplex import Shares
from scalesearch.scaling.stage import require_whole

SCHEMA_VERSION = 2
"""Version 1 also held the points of the confidence region, in `intervals`."""
# |α·β²·γ² − B| at most; where a float of B's size cannot be that exact, a few units in its last place.
PRODUCT_TOLERANCE = 1e-9
_UNITS = 16 * 2.0**-52

_KEYS = (
    "schema_version", "budget", "alpha", "beta", "gamma", "shares", "intervals", "resolved", "tied", "metric",
    "baseline", "rounding", "data", "training", "seeds", "provenance",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScalingRule:
    """How a budget is split: α·β²·γ² = `budget`, and the member φ of the family is (α^φ, β^φ, γ^φ).

    `resolved` says whether the trials distinguish the splits. `intervals` and `tied` are None if
    they were not computed (null in the file). `baseline` carries the rounding. `seeds` is the number of
    training runs behind each candidate; `data`, `training` and `provenance` are JSON objects.
    """

    budget: float
    alpha: float
    beta: float
    gamma: float
    shares: Shares
    intervals: Mapping[str, Any] | None
    resolved: bool
    tied: Sequence[Any] | None
    metric: str
    baseline: Baseline
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    seeds: int
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.budget) and self.budget > 1):
            raise ValueError(f"`budget` must be a finite number above 1, but got {self.budget!r}")
        try:
            product = self.coefficients.product
        except OverflowError:
            product = math.inf
        if not abs(product - self.budget) <= max(PRODUCT_TOLERANCE, _UNITS * self.budget):
            raise ValueError(
                f"`alpha` · `beta`² · `gamma`² must equal `budget` to {PRODUCT_TOLERANCE:g}, "
                f"but got {product!r} and budget {self.budget!r}"
            )
        expected = shares_of(self.coefficients).values
        if max(abs(a - b) for a, b in zip(expected, self.shares.values, strict=True)) > 1e-6:
            raise ValueError(
                f"`shares` must be those of `alpha`, `beta`, `gamma`, {expected}, but got {self.shares.values}"
            )
        require_whole("seeds", self.seeds, 1)

    def __repr__(self) -> str:
        """The rule in a line; `to_json` has all of it."""
        values = f"α = {self.alpha:.4g}, β = {self.beta:.4g}, γ = {self.gamma:.4g}"
        state = "" if self.resolved else ", not resolved"
        return f"<ScalingRule: {self.baseline.name}, budget {self.budget:g}, {values}{state}>"

    @property
    def coefficients(self) -> Coefficients:
        """(α, β, γ)."""
        return Coefficients(self.alpha, self.beta, self.gamma)

    @property
    def rounding(self) -> Rounding:
        """How the family's multipliers become whole numbers."""
        return self.baseline.rounding

    def to_json(self) -> dict[str, Any]:
        """The object of coefficients.json; `export.rule_json.parse_rule` reads it back exactly."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {
            "schema_version": SCHEMA_VERSION,
            "shares": dataclasses.asdict(self.shares),
            "tied": None if self.tied is None else list(self.tied),
            "baseline": {"name": self.baseline.name, "spec": self.baseline.spec.to_json()},
            "rounding": self.rounding.to_json(),
        }
        return {key: values[key] for key in _KEYS}
