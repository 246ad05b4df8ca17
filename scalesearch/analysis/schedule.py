"""Does the length of the schedule change the order of the candidates? Kendall's τ between rungs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from scalesearch.analysis.choice import Choice, choose
from scalesearch.analysis.surfaces.base import InsufficientTrials
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.records import DONE, TrialRecord
from scalesearch.runtime.text import plural

# A rank correlation of n pairs needs more than these for an interval.
_LEAST = 5
_QUANTILE = 1.959964
# Below it more than a quarter of all pairs change places between the schedules.
LOW_TAU = 0.5

# Column → dtype. One row a rung, in order of epochs.
#   candidates        networks that finished on the rung and on the whole schedule, at least two
#   tau, low, high    Kendall's rank correlation of their metric between the two, and its 95 % interval
#   *_share           the choice by the rung alone (missing where none can be made)
#   agrees            whether that choice lies in the confidence region of the whole schedule's
COLUMNS: Mapping[str, str] = {
    "epochs": "int64",
    "candidates": "int64",
    "tau": "float64",
    "low": "float64",
    "high": "float64",
    "depth_share": "float64",
    "width_share": "float64",
    "resolution_share": "float64",
    "agrees": "bool",
}


def schedule_table(
    rungs: Mapping[int, Sequence[TrialRecord]], records: Sequence[TrialRecord], choice: Choice, budget: float
) -> pd.DataFrame:
    """Each rung that has begun (epochs → records) against the whole schedule (`records`); columns are `COLUMNS`.

    The interval is Fieller's, atanh τ ± 1.96 √(0.437 ÷ (n − 4)), whatever the noise of the seeds: two orders
    of networks that are equally good do not agree either.
    Source: Fieller, Hartley and Pearson, "Tests for rank correlation coefficients. I", Biometrika 44 (1957).
    """
    metric = choice.signal.metric
    whole = _values(records, budget, metric)
    rows = []
    for epochs, own in sorted(rungs.items()):
        both = pd.concat([whole, _values(own, budget, metric)], axis=1, join="inner").to_numpy()
        if len(both) < 2:
            continue  # the rung has not begun
        rows.append((epochs, len(both), *_tau(both), *_choice(own, choice, budget)))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict(COLUMNS))


def warning(table: pd.DataFrame) -> str:
    """What the rungs say against the rule: an order that is not kept beyond chance, or a τ below `LOW_TAU`.

    Empty where they say nothing.
    """
    if table.empty:
        return ""
    low = table["tau"].lt(LOW_TAU)
    unsure = ~low & (table["low"].le(0) | table["low"].isna())
    said = []
    if low.any():
        said.append(f"hardly follows that of the whole schedule after {_told(table[low])}")
    if unsure.any():
        said.append(f"may follow that of the whole schedule by chance after {_told(table[unsure])}")
    if not said:
        return ""
    return (
        f"The order of the candidates {' and '.join(said)}: a longer schedule may choose another rule. "
        "Short ones favour width (arXiv:2103.07579)."
    )


def _told(rungs: pd.DataFrame) -> str:
    pairs = zip(rungs["epochs"].tolist(), rungs["tau"].tolist(), strict=True)
    return " and ".join(f"{plural(epochs, 'epoch')} (τ = {tau:.2f})" for epochs, tau in pairs)


def _values(records: Sequence[TrialRecord], budget: float, metric: str) -> pd.Series:
    """The metric of each finished network, by its sizes."""
    table = candidates_table(records, budget, metric)
    done = table[table["status"].eq(DONE)]
    values: pd.Series = done.set_index(["depths", "widths", "resolution"])[metric]
    return values


def _tau(both: np.ndarray) -> tuple[float, float, float]:
    """τ of the two columns of (n, 2), and its interval."""
    tau = float(kendalltau(both[:, 0], both[:, 1]).statistic)
    if len(both) < _LEAST or math.isnan(tau):
        return tau, math.nan, math.nan
    half = _QUANTILE * math.sqrt(0.437 / (len(both) - 4))
    centre = math.atanh(min(max(tau, -0.9999), 0.9999))
    return tau, math.tanh(centre - half), math.tanh(centre + half)


def _choice(records: Sequence[TrialRecord], whole: Choice, budget: float) -> tuple[float, float, float, bool]:
    """The shares that the rung's `records` choose, and whether they are in the region of the `whole` schedule's."""
    metric = whole.signal.metric
    try:
        own = choose(trials_table(records), candidates_table(records, budget, metric), budget, metric)
    except InsufficientTrials:
        return math.nan, math.nan, math.nan, False
    return *own.shares.values, bool(whole.may_be_optimum(np.array([own.shares.values]))[0])
