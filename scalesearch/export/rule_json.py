"""coefficients.json: a rule as a page that a person can read, and read back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.compound import Baseline, Rounding
from scalesearch.scaling.rule import SCHEMA_VERSION, ScalingRule
from scalesearch.scaling.simplex import Shares
from scalesearch.study.faults import first_fault


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Shares(_Document):
    depth: float
    width: float
    resolution: float


class _Baseline(_Document):
    name: str
    spec: dict[str, Any]


class _Rounding(_Document):
    width_divisor: int
    depth: str
    resolution_step: int
    stem: str
    head: str


class _Rule(_Document):
    """coefficients.json of schema version 2, or 1, which also held the points of the confidence region."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)]
    budget: float
    alpha: float
    beta: float
    gamma: float
    shares: _Shares
    intervals: dict[str, Any] | None
    resolved: bool
    tied: list[Any] | None
    metric: str
    baseline: _Baseline
    rounding: _Rounding
    data: dict[str, Any]
    training: dict[str, Any]
    seeds: int
    provenance: dict[str, Any]


def rule_text(rule: ScalingRule) -> str:
    """The text of coefficients.json: indented, with lists of numbers and words on one line."""
    text = json.dumps(rule.to_json(), indent=2)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", _on_one_line, text) + "\n"


def _on_one_line(match: re.Match[str]) -> str:
    items = re.sub(r",\s+", ", ", match[1])
    return f"[{items}]"


def parse_rule(document: object) -> ScalingRule:
    """The rule of the object that coefficients.json holds.

    Raises:
        InputError: a key is missing, unknown or has a wrong value; the message names it.
    """
    if not isinstance(document, Mapping):
        raise InputError(f"the document must be an object, but got {type(document).__name__}")
    try:
        parsed = _Rule.model_validate(document)
    except ValidationError as error:
        raise InputError(first_fault(error, _Rule).message) from None
    except RecursionError:
        raise InputError("the document is nested too deeply") from None
    try:
        spec = ArchitectureSpec.from_json(parsed.baseline.spec)
    except ValueError as error:
        raise InputError(f"`baseline.spec`: {error}") from None
    intervals = parsed.intervals
    try:
        return ScalingRule(
            **{
                key: getattr(parsed, key) for key in ("budget", "alpha", "beta", "gamma", "resolved", "metric", "seeds")
            },
            shares=Shares(**parsed.shares.model_dump()),
            intervals=None if intervals is None else {key: intervals[key] for key in intervals if key != "points"},
            tied=None if parsed.tied is None else tuple(parsed.tied),
            baseline=Baseline(parsed.baseline.name, spec, Rounding(**parsed.rounding.model_dump())),
            data=parsed.data,
            training=parsed.training,
            provenance=parsed.provenance,
        )
    except ValueError as error:
        message = str(error)
        raise InputError(f"`shares`: {message}" if message.startswith("shares") else message) from None


def read_rule(path: Path) -> ScalingRule:
    """The rule of a coefficients.json, or of the run folder that holds it.

    Raises:
        InputError: the file is missing, is no JSON, or holds no rule; the message names file and key.
    """
    if path.is_dir():
        path = path / "coefficients.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise InputError(f"{path}: not valid JSON (nested too deeply)") from None
    except ValueError as error:  # also text that is no UTF-8, and endless numbers
        raise InputError(f"{path}: not valid JSON ({error})") from None
    try:
        return parse_rule(document)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
