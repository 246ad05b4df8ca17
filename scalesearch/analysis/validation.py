"""A rule against its rivals: differences over paired seeds with intervals that hold together, and a verdict."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from scalesearch.analysis.comparison import finished_runs, two_way
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.surfaces.base import FloatArray
from scalesearch.analysis.tables import trials_table
from scalesearch.errors import InputError
from scalesearch.results.records import TrialRecord, merged_records
from scalesearch.runtime.files import write_text
from scalesearch.runtime.text import plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.simplex import NAMES

LEVEL = 0.95
# Student's t of the differences of fewer seeds is wide: of three it is twice that of five.
ENOUGH = 5
_WORDS = {
    "better": "better than",
    "tied": "not distinguishable from",
    "worse": "worse than",
    "unknown": "not compared, for want of seeds that differ, with",
}

# Column → dtype. One row a network, the rule's first, then the best first.
#   rivals              the splits that are this network
#   *_share, macs_ratio realised
#   value               mean of the metric over the seeds, their effects taken out
#   better_by           how much better the rule's network is, in the metric's unit; low, high: its interval
#   verdict             better, worse or tied, as the rule's network is; unknown without two seeds; empty for its own
COLUMNS: Mapping[str, str] = {
    "rivals": "str",
    **{f"{name}_share": "float64" for name in NAMES},
    "macs_ratio": "float64",
    "seeds": "int64",
    "value": "float64",
    "better_by": "float64",
    "low": "float64",
    "high": "float64",
    "verdict": "str",
}


@dataclass(frozen=True)
class Validation:
    """The rule against its rivals at one φ. `table` has `COLUMNS`; `date`: test split read.

    `earlier` has the `mark` of each other finished reading of the test split at this φ.
    """

    phi: float
    budget: float
    date: str
    data_digest: str
    verdict: str
    table: pd.DataFrame
    earlier: tuple[Mapping[str, Any], ...] = ()

    @property
    def seeds(self) -> int:
        """Trainings of the rule's network."""
        return int(self.table["seeds"].iloc[0])

    def mark(self) -> dict[str, Any]:
        """What tells this reading of the test split from another: date, seeds, the shares of the rule's network."""
        shares = [round(float(self.table[f"{name}_share"].iloc[0]), 6) for name in NAMES]
        return {"date": self.date, "seeds": self.seeds, "shares": shares}

    @property
    def reading(self) -> str:
        """How often the test split was read at this φ, in a sentence."""
        if not self.earlier:
            return f"The test split was read once at this φ, on {self.date}."
        told = ", ".join(f"{one['date']} with {plural(one['seeds'], 'seed')}" for one in self.earlier)
        return (
            f"The test split was read {len(self.earlier) + 1} times at this φ (others: {told}): for what was chosen "
            "after the first reading it is no longer unseen."
        )

    def to_json(self) -> dict[str, Any]:
        """An entry of validation.json; `from_json` reads it back."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {
            **{key: getattr(self, key) for key in ("phi", "budget", "date", "data_digest", "verdict")},
            "table": rows,
            "earlier": [dict(one) for one in self.earlier],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Validation:
        """The validation of `to_json`'s object."""
        table = pd.DataFrame(document["table"], columns=list(COLUMNS)).astype(dict(COLUMNS))
        return cls(**{**document, "table": table, "earlier": tuple(document.get("earlier", ()))})


def read_validations(folder: Path) -> tuple[Validation, ...]:
    """What `save_validation` wrote to a run folder, by φ; empty where it never did. Raises `InputError`."""
    path = folder / "validation.json"
    if not path.is_file():
        return ()
    try:
        return tuple(Validation.from_json(one) for one in json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not what `validate` writes ({type(error).__name__}: {error})") from None


def save_validation(folder: Path, new: Validation) -> None:
    """Write `new` to the run folder's validation.json, in place of an older one of its φ, which it remembers.

    The same rule with as many seeds again is no further reading: nothing was trained.
    """
    found = {one.phi: one for one in read_validations(folder)}
    old, own = found.get(new.phi), new.mark()
    if old is not None:
        others = [one for one in (*old.earlier, old.mark()) if {**one, "date": own["date"]} != own]
        new = dataclasses.replace(new, earlier=tuple(others))
    document = [one.to_json() for _, one in sorted({**found, new.phi: new}.items())]
    write_text(folder / "validation.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def validation_table(
    records: Sequence[TrialRecord], names: Mapping[ArchitectureSpec, tuple[str, ...]], rule: str, metric: str
) -> pd.DataFrame:
    """The finished networks of `names` (spec → its splits, one of them `rule`); columns are `COLUMNS`.

    Each interval is that of the paired differences of one rival (Student's t over the seeds that both have), so that
    a network whose seeds differ much widens its own alone; they hold together at `LEVEL` (Bonferroni over the rivals).
    Without two seeds there are none. Raises `ValueError` where the rule's network has no result.
    """
    maximise = metric_of(metric).maximise
    runs = finished_runs(trials_table(records), metric)
    model, merged = two_way(runs, metric), merged_records(records)
    specs = [merged[number].candidate.spec for number in model.candidates]
    own = next((place for place, spec in enumerate(specs) if rule in names[spec]), None)
    if own is None:
        raise ValueError("the rule's own network has no result to compare with")
    by_seed = runs.pivot(index="seed", columns="candidate", values=metric)[list(model.candidates)].to_numpy(float)
    rows = []
    for place, spec in enumerate(specs):
        candidate = merged[model.candidates[place]].candidate
        ahead = float(model.means[own] - model.means[place]) * (1 if maximise else -1)
        half = math.nan if place == own else _half_width(by_seed[:, own] - by_seed[:, place], len(specs) - 1)
        verdict = "" if place == own else _judged(ahead, half)
        rows.append(
            (", ".join(names[spec]), *candidate.shares.values, candidate.macs_ratio, int(model.counts[place]),
             float(model.means[place]), ahead, ahead - half, ahead + half, verdict)
        )  # fmt: skip
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict(COLUMNS))
    order = np.lexsort((table["better_by"].to_numpy(), np.arange(len(table)) != own))
    return table.iloc[order].reset_index(drop=True)


def _half_width(differences: FloatArray, rivals: int) -> float:
    """Half the interval of the mean of paired `differences` (n,), one of so many.

    NaN for fewer than two, and where all are the same: accuracies of few images are, and say nothing of the noise.
    """
    paired = differences[np.isfinite(differences)]
    if len(paired) < 2 or np.ptp(paired) < 1e-12:
        return math.nan
    quantile = float(student.ppf(1 - (1 - LEVEL) / 2 / rivals, len(paired) - 1))
    return quantile * float(paired.std(ddof=1)) / math.sqrt(len(paired))


def _judged(ahead: float, half: float) -> str:
    if math.isnan(half):
        return "unknown"
    return "better" if ahead > half else "worse" if ahead < -half else "tied"


def verdict(table: pd.DataFrame) -> str:
    """What the table says of the rule, in a sentence."""
    others = table[table["verdict"].ne("")]
    told = [
        f"{word} {', '.join(others.loc[others['verdict'].eq(kind), 'rivals'])}"
        for kind, word in _WORDS.items()
        if others["verdict"].eq(kind).any()
    ]
    if not told:
        return "No rival is another network than the rule's."
    few = "" if table["seeds"].min() >= ENOUGH else f" Fewer than {ENOUGH} seeds show large differences only."
    return f"At equal macs the rule's network ({table['rivals'][0]}) is {'; '.join(told)}.{few}"
