"""A rule compared with its rivals on the test split: paired differences, simultaneous intervals, a verdict."""

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
from scalesearch.analysis.statistics import LEVEL, FloatArray
from scalesearch.analysis.tables import trials_table
from scalesearch.errors import InputError
from scalesearch.results.records import TrialRecord, merged_records
from scalesearch.runtime.files import write_text
from scalesearch.runtime.text import plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.simplex import NAMES

# With fewer seeds the intervals are wide: Student's t for three seeds is twice that for five.
ENOUGH = 5
# Verdict of the table → words of the sentence.
_WORDS = {
    "better": "better than",
    "tied": "not distinguishable from",
    "worse": "worse than",
    "unknown": "not comparable (fewer than two differing seeds) with",
}

# Column → dtype. One row for each network: the rule's first, then the others, best first.
#   rivals              names of the splits that are this network
#   *_share, macs_ratio realised
#   value               mean of the metric over the seeds, without the seeds' effects
#   better_by           how much better the rule's network is, in the metric's unit; low, high: its interval
#   verdict             whether the rule's network is better, worse or tied; unknown without two seeds that differ;
#                       empty in the rule's row
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
    """The rule compared with its rivals at one φ.

    Attributes:
        phi: the φ; the budget is B^φ.
        budget: that budget.
        date: when the test split was used.
        data_digest: digest of the data.
        verdict: the result in sentences.
        table: the networks; columns are `COLUMNS`.
        earlier: the `mark` of each other use of the test split at this φ.
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
        """Number of seeds of the rule's network."""
        return int(self.table["seeds"].iloc[0])

    def mark(self) -> dict[str, Any]:
        """Identifies this use of the test split: date, number of seeds, shares of the rule's network."""
        shares = [round(float(self.table[f"{name}_share"].iloc[0]), 6) for name in NAMES]
        return {"date": self.date, "seeds": self.seeds, "shares": shares}

    @property
    def reading(self) -> str:
        """A sentence on how often the test split was used at this φ."""
        if not self.earlier:
            return f"The test split was used once at this φ, on {self.date}."
        others = ", ".join(f"{mark['date']} with {plural(mark['seeds'], 'seed')}" for mark in self.earlier)
        return (
            f"The test split was used {len(self.earlier) + 1} times at this φ (other uses: {others}): it is no longer "
            "unseen for anything chosen after the first use."
        )

    def to_json(self) -> dict[str, Any]:
        """An entry of validation.json, which `from_json` reads."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {
            **{key: getattr(self, key) for key in ("phi", "budget", "date", "data_digest", "verdict")},
            "table": rows,
            "earlier": [dict(mark) for mark in self.earlier],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Validation:
        """The validation of an object from `to_json`."""
        table = pd.DataFrame(document["table"], columns=list(COLUMNS)).astype(dict(COLUMNS))
        return cls(**{**document, "table": table, "earlier": tuple(document.get("earlier", ()))})


def read_validations(folder: Path) -> tuple[Validation, ...]:
    """The validations of a run folder, by φ; empty if it has none. Raises `InputError` if the file is not valid."""
    path = folder / "validation.json"
    if not path.is_file():
        return ()
    try:
        return tuple(Validation.from_json(entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not what `validate` writes ({type(error).__name__}: {error})") from None


def save_validation(folder: Path, new: Validation) -> None:
    """Write `new` to the run folder's validation.json.

    It replaces an older validation at the same φ, and remembers that as an earlier use of the test split. The same
    rule with the same number of seeds is not another use: nothing was trained.
    """
    by_phi = {validation.phi: validation for validation in read_validations(folder)}
    old, mark = by_phi.get(new.phi), new.mark()
    if old is not None:
        others = [other for other in (*old.earlier, old.mark()) if {**other, "date": mark["date"]} != mark]
        new = dataclasses.replace(new, earlier=tuple(others))
    document = [validation.to_json() for _, validation in sorted({**by_phi, new.phi: new}.items())]
    write_text(folder / "validation.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def validation_table(
    records: Sequence[TrialRecord], names: Mapping[ArchitectureSpec, tuple[str, ...]], rule: str, metric: str
) -> pd.DataFrame:
    """The finished networks, compared with the rule's; columns are `COLUMNS`.

    Each interval is that of a rival's paired differences (Student's t over the seeds that both networks have), so that
    a network with noisy seeds widens only its own interval. The intervals hold simultaneously at `LEVEL` (Bonferroni
    over the rivals). Without two seeds there are none.

    Args:
        records: trials of the networks.
        names: for each network the names of its splits.
        rule: the name of the rule's split.
        metric: name of the metric.

    Raises:
        ValueError: if the rule's network has no result.
    """
    maximise = metric_of(metric).maximise
    runs = finished_runs(trials_table(records), metric)
    model, merged = two_way(runs, metric), merged_records(records)
    specs = [merged[number].candidate.spec for number in model.candidates]
    rule_row = next((row for row, spec in enumerate(specs) if rule in names[spec]), None)
    if rule_row is None:
        raise ValueError("the network of the rule must have a result, but has none")
    by_seed = runs.pivot(index="seed", columns="candidate", values=metric)[list(model.candidates)].to_numpy(float)
    rows = []
    for row, spec in enumerate(specs):
        candidate = merged[model.candidates[row]].candidate
        ahead = float(model.means[rule_row] - model.means[row]) * (1 if maximise else -1)
        half = math.nan if row == rule_row else _half_width(by_seed[:, rule_row] - by_seed[:, row], len(specs) - 1)
        verdict = "" if row == rule_row else _judged(ahead, half)
        rows.append(
            (", ".join(names[spec]), *candidate.shares.values, candidate.cost_ratio, int(model.counts[row]),
             float(model.means[row]), ahead, ahead - half, ahead + half, verdict)
        )  # fmt: skip
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict(COLUMNS))
    order = np.lexsort((table["better_by"].to_numpy(), np.arange(len(table)) != rule_row))
    return table.iloc[order].reset_index(drop=True)


def _half_width(differences: FloatArray, rivals: int) -> float:
    """Half the interval of the mean of paired `differences` (n,), for one of `rivals` rivals.

    NaN for fewer than two, or if all are equal: accuracies on few images can be, which does not show the noise.
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
    """The result in sentences; `table` is that of `validation_table`."""
    others = table[table["verdict"].ne("")]
    groups = [
        f"{words} {', '.join(others.loc[others['verdict'].eq(kind), 'rivals'])}"
        for kind, words in _WORDS.items()
        if others["verdict"].eq(kind).any()
    ]
    if not groups:
        return "Every rival is the same network as the rule's."
    few = "" if table["seeds"].min() >= ENOUGH else f" With fewer than {ENOUGH} seeds only large differences show."
    return f"At equal macs the rule's network ({table['rivals'][0]}) is {'; '.join(groups)}.{few}"
