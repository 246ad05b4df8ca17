"""Two studies compared: their rules, and whether their confidence regions contradict each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scalesearch.analysis.choice import Choice
from scalesearch.scaling.rule import ScalingRule
from scalesearch.scaling.simplex import NAMES, lattice

_STEPS = 60

# Column → dtype. Two rows, one for each study.
#   alpha, beta, gamma   the rule for its budget; *_low and *_high are its intervals (missing if there are none)
#   *_share              how it splits the budget; comparable across budgets
#   region               part of the triangle where the optimum may be
#   resolved             whether the choice is resolved
#   holds_other          whether the region contains the other study's choice
#   overlap              whether the two regions share a point; the same in both rows. If not, the studies contradict
#                        each other: with one truth, both regions contain it in at least 90 of 100 pairs
COLUMNS: Mapping[str, str] = {
    "study": "str",
    "budget": "float64",
    "metric": "str",
    **{f"{name}{end}": "float64" for name in ("alpha", "beta", "gamma") for end in ("", "_low", "_high")},
    **{f"{name}_share": "float64" for name in NAMES},
    "region": "float64",
    "resolved": "bool",
    "holds_other": "bool",
    "overlap": "bool",
}


def agreement(first: tuple[str, ScalingRule, Choice], second: tuple[str, ScalingRule, Choice]) -> pd.DataFrame:
    """The comparison of two studies as a table with `COLUMNS`; each is given as its name, rule and choice.

    Without a surface the region of a study is the whole triangle.
    """
    overlap = regions_overlap(first[2], second[2])
    rows = [
        {**_row(name, rule), "holds_other": _holds(choice, other[2]), "overlap": overlap}
        for (name, rule, choice), other in ((first, second), (second, first))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict(COLUMNS))


def regions_overlap(first: Choice, second: Choice) -> bool:
    """Whether a split may be the optimum of both. Tested on a lattice and on the points of both regions."""
    regions = [choice.region.points for choice in (first, second) if choice.region is not None]
    points = np.concatenate([np.array([point.values for point in lattice(_STEPS)]), *regions])
    return bool((first.may_be_optimum(points) & second.may_be_optimum(points)).any())


def _holds(choice: Choice, other: Choice) -> bool:
    return bool(choice.may_be_optimum(np.array([other.shares.values]))[0])


def _row(name: str, rule: ScalingRule) -> dict[str, Any]:
    intervals = rule.intervals or {}
    row: dict[str, Any] = {"study": name, "budget": rule.budget, "metric": rule.metric, "resolved": rule.resolved}
    for letter in ("alpha", "beta", "gamma"):
        low, high = intervals.get(letter, (math.nan, math.nan))
        row |= {letter: getattr(rule, letter), f"{letter}_low": low, f"{letter}_high": high}
    row |= {f"{axis}_share": share for axis, share in zip(NAMES, rule.shares.values, strict=True)}
    return {**row, "region": intervals.get("region", math.nan)}
