"""A rule against its rivals: differences over paired seeds with intervals that hold together, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from scalesearch.analysis.comparison import finished_runs, two_way
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.tables import merged_records, trials_table
from scalesearch.records import TrialRecord
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.simplex import NAMES

LEVEL = 0.95
_WORDS = {
    "better": "better than",
    "tied": "not distinguishable from",
    "worse": "worse than",
    "unknown": "not compared, for want of a second seed, with",
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


def validation_table(
    records: Sequence[TrialRecord], names: Mapping[ArchitectureSpec, tuple[str, ...]], rule: str, metric: str
) -> pd.DataFrame:
    """The finished networks of `names` (spec → its splits, one of them `rule`); columns are `COLUMNS`.

    The intervals hold together at `LEVEL` (Bonferroni's t over the rivals, error of the two-way model candidate +
    seed); without two seeds there are none. Raises `ValueError` where the rule's network has no result.
    """
    maximise = metric_of(metric).maximise
    runs = finished_runs(trials_table(records), metric)
    model, merged = two_way(runs, metric), merged_records(records)
    specs = [merged[number].candidate.spec for number in model.candidates]
    own = next((place for place, spec in enumerate(specs) if rule in names[spec]), None)
    if own is None:
        raise ValueError("the rule's own network has no result to compare with")
    rows = []
    quantile = math.nan
    if model.error_variance is not None and len(specs) > 1:
        quantile = float(student.ppf(1 - (1 - LEVEL) / 2 / (len(specs) - 1), model.error_df))
        quantile *= math.sqrt(model.error_variance)
    for place, spec in enumerate(specs):
        candidate = merged[model.candidates[place]].candidate
        ahead = float(model.means[own] - model.means[place]) * (1 if maximise else -1)
        half = quantile * math.sqrt(1 / model.counts[own] + 1 / model.counts[place])
        verdict = "" if place == own else _judged(ahead, half)
        low, high = (math.nan, math.nan) if place == own else (ahead - half, ahead + half)
        rows.append(
            (", ".join(names[spec]), *candidate.shares.values, candidate.macs_ratio, int(model.counts[place]),
             float(model.means[place]), ahead, low, high, verdict)
        )  # fmt: skip
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict(COLUMNS))
    order = np.lexsort((table["better_by"].to_numpy(), np.arange(len(table)) != own))
    return table.iloc[order].reset_index(drop=True)


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
    return f"At equal macs the rule's network ({table['rivals'][0]}) is {'; '.join(told)}."
