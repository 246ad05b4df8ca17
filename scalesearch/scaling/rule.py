"""The chosen rule: `ScalingRule` ⇄ coefficients.json."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients, shares_of
from scalesearch.scaling.compound import Baseline, Rounding
from scalesearch.scaling.simplex import Shares

SCHEMA_VERSION = 1
# |α·β²·γ² − B| at most; where a float of B's size cannot be that exact, a few units in its last place.
PRODUCT_TOLERANCE = 1e-9
_UNITS = 16 * 2.0**-52

T = TypeVar("T")

_KEYS = (
    "schema_version", "budget", "alpha", "beta", "gamma", "shares", "intervals", "resolved", "tied", "metric",
    "baseline", "rounding", "data", "training", "seeds", "provenance",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScalingRule:
    """How a budget is split: α·β²·γ² = `budget`, and the member φ of the family is (α^φ, β^φ, γ^φ).

    `resolved` says whether the trials tell the candidates apart. `intervals` and `tied` are None where
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
        product = self.coefficients.product
        if not abs(product - self.budget) <= max(PRODUCT_TOLERANCE, _UNITS * self.budget):
            raise ValueError(
                f"`alpha` · `beta`² · `gamma`² must equal `budget` to {PRODUCT_TOLERANCE:g}, "
                f"but got {product!r} and budget {self.budget!r}"
            )
        own = shares_of(self.coefficients).values
        if max(abs(a - b) for a, b in zip(own, self.shares.values, strict=True)) > 1e-6:
            raise ValueError(f"`shares` must be those of `alpha`, `beta`, `gamma`, {own}, but got {self.shares.values}")
        if self.seeds < 1:
            raise ValueError(f"`seeds` must be a whole number of at least 1, but got {self.seeds!r}")

    @property
    def coefficients(self) -> Coefficients:
        """(α, β, γ)."""
        return Coefficients(self.alpha, self.beta, self.gamma)

    @property
    def rounding(self) -> Rounding:
        """How the family's multipliers become whole numbers."""
        return self.baseline.rounding

    def to_json(self) -> dict[str, Any]:
        """The object of coefficients.json; `from_json` reads it back exactly."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {
            "schema_version": SCHEMA_VERSION,
            "shares": dataclasses.asdict(self.shares),
            "tied": None if self.tied is None else list(self.tied),
            "baseline": {"name": self.baseline.name, "spec": self.baseline.spec.to_json()},
            "rounding": dataclasses.asdict(self.rounding),
        }
        return {key: values[key] for key in _KEYS}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The rule of a coefficients.json object. Raises `ValueError` naming the key for any other document."""
        values = _object(document, None, _KEYS)
        if values["schema_version"] != SCHEMA_VERSION or isinstance(values["schema_version"], bool):
            raise ValueError(
                f"`schema_version` must be {SCHEMA_VERSION}, but got {values['schema_version']!r}: "
                "read it with the version of scalesearch that wrote it"
            )
        baseline = _object(values["baseline"], "baseline", ("name", "spec"))
        return cls(
            **{key: _number(values[key], key) for key in ("budget", "alpha", "beta", "gamma")},
            shares=_built(Shares, values["shares"], "shares", _number),
            intervals=None if values["intervals"] is None else dict(_object(values["intervals"], "intervals")),
            resolved=_typed(values["resolved"], "resolved", bool, "true or false"),
            tied=None if values["tied"] is None else tuple(_typed(values["tied"], "tied", list, "a list or null")),
            metric=_typed(values["metric"], "metric", str, "a string"),
            baseline=Baseline(
                name=_typed(baseline["name"], "baseline.name", str, "a string"),
                spec=_spec(baseline["spec"]),
                rounding=_built(Rounding, values["rounding"], "rounding", lambda value, key: value),
            ),
            data=dict(_object(values["data"], "data")),
            training=dict(_object(values["training"], "training")),
            seeds=_typed(values["seeds"], "seeds", int, "a whole number"),
            provenance=dict(_object(values["provenance"], "provenance")),
        )


def _object(value: object, key: str | None, keys: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """`value` as an object with exactly `keys`; `key` is None for the document itself."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{f'`{key}`' if key else 'the document'} must be an object, but got {value!r}")
    prefix = f"{key}." if key else ""
    for name in keys or ():
        if name not in value:
            raise ValueError(f"the key `{prefix}{name}` is missing")
    unknown = [name for name in value if keys is not None and name not in keys]
    if unknown:
        raise ValueError(f"`{prefix}{unknown[0]}` is an unknown key; allowed: {', '.join(keys or ())}")
    return value


def _typed(value: object, key: str, kind: type[T], words: str) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"`{key}` must be {words}, but got {value!r}")
    return value


def _number(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"`{key}` must be a finite number, but got {value!r}")
    return float(value)


def _built(kind: Callable[..., T], value: object, key: str, check: Callable[[object, str], object]) -> T:
    """A flat value object from `value`, whose keys are the fields of `kind`; each passes `check`."""
    names = tuple(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]  # a dataclass
    values = _object(value, key, names)
    return kind(**{name: check(values[name], f"{key}.{name}") for name in names})


def _spec(value: object) -> ArchitectureSpec:
    try:
        return ArchitectureSpec.from_json(_object(value, "baseline.spec"))
    except ValueError as error:
        message = str(error)
        raise ValueError(message if "baseline.spec" in message else f"`baseline.spec`: {message}") from error
