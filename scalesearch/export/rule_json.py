"""coefficients.json: a rule as human-readable JSON, and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from scalesearch.errors import InputError
from scalesearch.results.records import NOTHING_LEARNED
from scalesearch.runtime.files import read_document
from scalesearch.runtime.modules import look_in
from scalesearch.runtime.text import first_line, short
from scalesearch.scaling.compound import Baseline, Rounding
from scalesearch.scaling.rule import SCHEMA_VERSION, ScalingRule
from scalesearch.scaling.simplex import Shares
from scalesearch.scaling.stage import LARGEST_SIZE
from scalesearch.study.documents import FROM_LIST, FROM_OBJECT, Section, Spec, read

REFERENCE_FILE = "reference.json"
"""The file of a run folder that holds the baseline's results and how the candidates stand."""

# What of a rule's training is computed with.
_NUMBERS = (
    "batch_size", "dropout", "stochastic_depth", "rand_augment", "rand_augment_magnitude", "evaluation_resolution",
)  # fmt: skip

# Columns that a list or an object may take to stand on one line.
_WIDTH = 132


class _BaselineDocument(Section):
    name: str
    spec: Spec


class _RuleDocument(Section):
    """The JSON object of a rule. Version 1 also held the points of the region, which are now in region.csv."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)]
    budget: float
    alpha: float
    beta: float
    gamma: float
    shares: Annotated[Shares, FROM_OBJECT]
    intervals: dict[str, Any] | None
    resolved: bool
    tied: Annotated[tuple[Any, ...], FROM_LIST] | None
    metric: str
    baseline: _BaselineDocument
    rounding: Annotated[Rounding, FROM_OBJECT]
    data: dict[str, Any]
    training: dict[str, Any]
    seeds: int
    provenance: dict[str, Any]

    def rule(self) -> ScalingRule:
        """The rule. Raises `ValueError` for a value that the family of a rule cannot follow."""
        for key in _NUMBERS:
            _require_number(f"training.{key}", self.training.get(key))
        trials = self.provenance.get("trials")
        for key, value in trials.items() if isinstance(trials, dict) else ():
            _require_number(f"provenance.trials.{key}", value)
        values = {key: value for key, value in self if key not in ("schema_version", "rounding")}
        if self.intervals is not None:
            values["intervals"] = {key: value for key, value in self.intervals.items() if key != "points"}
        values["baseline"] = Baseline(self.baseline.name, self.baseline.spec, self.rounding)
        return ScalingRule(**values)


def _require_number(name: str, value: object) -> None:
    """Raises `ValueError` unless `value` is a number from 0 to `LARGEST_SIZE`, or None."""
    if value is None or (type(value) in (int, float) and 0 <= value <= LARGEST_SIZE):  # type: ignore[operator]
        return
    raise ValueError(f"`{name}` must be a number from 0 to {LARGEST_SIZE}, but got {short(value)}")


def parse_rule(document: object, where: str = "rule") -> ScalingRule:
    """The rule of the object in coefficients.json, of this schema version or an earlier one.

    Raises `InputError`: one line with `where`, the key, what is allowed, and the value.
    """
    return read(_RuleDocument, document, _RuleDocument.rule, where)


def read_rule(path: Path) -> ScalingRule:
    """The rule of a coefficients.json, or of the run folder that holds one.

    Raises `InputError`: one line with the file, the key, what is allowed, and the value.
    """
    if path.is_dir():
        folder, path = path, path / "coefficients.json"
        if not path.exists():
            _check_learned(folder)
            if (folder / "model.json").is_file():
                raise InputError(f"{folder}: the folder of a trained model, not of a rule")
            raise InputError(f"{folder}: no coefficients.json there yet; finish the run first")
    try:
        document = read_document(path, json.loads)
    except FileNotFoundError:
        _check_learned(path.parent)
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # also text that is not UTF-8, and endless numbers or nesting
        raise InputError(f"{path}: not valid JSON ({first_line(error)})") from None
    look_in(path.parent, Path.cwd())  # for a baseline with blocks of the user's own
    return parse_rule(document, str(path))


def _check_learned(folder: Path) -> None:
    """Raises `InputError` if a run folder without a coefficients.json has none because nothing was learned."""
    try:
        standing = json.loads((folder / REFERENCE_FILE).read_text(encoding="utf-8"))["standing"]
        answer = standing["answer"] if standing["state"] == NOTHING_LEARNED else ""
    except (OSError, ValueError, LookupError, TypeError):
        return  # not a run folder, or another tool's file
    if answer and isinstance(answer, str):
        raise InputError(f"{folder}: {answer[0].lower()}{answer[1:]}")


def rule_text(rule: ScalingRule) -> str:
    """The text of coefficients.json: indented, but for lists and objects that fit on one line."""
    text = json.dumps(rule.to_json(), indent=2)
    # JSON strings hold no line breaks, so that no string is changed.
    return re.sub(r"([\[{])\n *([^\[\]{}]*?)\n *([\]}])(?=,?\n)", _joined, text) + "\n"


def _joined(match: re.Match[str]) -> str:
    opening, content, closing = match.groups()
    line = opening + re.sub(r"\n *", " ", content) + closing
    start = match.string.rfind("\n", 0, match.start()) + 1
    return line if match.start() - start + len(line) < _WIDTH else match[0]
