"""Whether the length of the schedule changes the ranking of the candidates: Kendall's τ between schedules.

A rung is a shorter schedule, on which all candidates are trained too.
"""

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

# The interval of a rank correlation needs at least this many pairs.
_LEAST_PAIRS = 5
# Normal quantile for 95 %.
_QUANTILE = 1.959964
# Below this τ more than a quarter of all pairs change places between the schedules.
LOW_TAU = 0.5

# Column → dtype. One row for each rung, in order of epochs.
#   candidates        number of networks that finished both on the rung and on the full schedule, at least two
#   tau, low, high    Kendall's rank correlation of their metric between the two schedules, and its 95 % interval
#   *_share           the choice from the rung alone (missing if none can be made)
#   agrees            whether that choice is in the confidence region of the full schedule
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
    """Each rung that has begun, compared with the full schedule; columns are `COLUMNS`.

    The interval is Fieller's, atanh τ ± 1.96 √(0.437 ÷ (n − 4)). It does not depend on the seed noise: two rankings of
    equally good networks do not agree either.
    Source: Fieller, Hartley and Pearson, "Tests for rank correlation coefficients. I", Biometrika 44 (1957).

    Args:
        rungs: records of each rung, by its number of epochs.
        records: records of the full schedule.
        choice: the choice from the full schedule.
        budget: the study's budget B.
    """
    metric = choice.signal.metric
    full = _values(records, budget, metric)
    rows = []
    for epochs, rung_records in sorted(rungs.items()):
        both = pd.concat([full, _values(rung_records, budget, metric)], axis=1, join="inner").to_numpy()
        if len(both) < 2:
            continue  # the rung has not begun
        rows.append((epochs, len(both), *_tau(both), *_rung_choice(rung_records, choice, budget)))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict(COLUMNS))


def warning(table: pd.DataFrame) -> str:
    """Why the rungs cast doubt on the rule: a τ below `LOW_TAU`, or one that may be chance; empty if they do not.

    `table` is that of `schedule_table`.
    """
    if table.empty:
        return ""
    low = table["tau"].lt(LOW_TAU)
    uncertain = ~low & (table["low"].le(0) | table["low"].isna())
    reasons = []
    if low.any():
        reasons.append(f"the ranking of the candidates differs from the full schedule's after {_listed(table[low])}")
    if uncertain.any():
        reasons.append(f"the ranking may match the full schedule's only by chance after {_listed(table[uncertain])}")
    if not reasons:
        return ""
    return (
        f"A longer schedule may choose another rule: {'; '.join(reasons)}. "
        "Short schedules favour width (arXiv:2103.07579)."
    )


def _listed(rungs: pd.DataFrame) -> str:
    pairs = zip(rungs["epochs"].tolist(), rungs["tau"].tolist(), strict=True)
    return " and ".join(f"{plural(epochs, 'epoch')} (τ = {tau:.2f})" for epochs, tau in pairs)


def _values(records: Sequence[TrialRecord], budget: float, metric: str) -> pd.Series:
    """The metric of each finished network, by its sizes."""
    table = candidates_table(records, budget, metric)
    done = table[table["status"].eq(DONE)]
    values: pd.Series = done.set_index(["depths", "widths", "resolution"])[metric]
    return values


def _tau(both: np.ndarray) -> tuple[float, float, float]:
    """τ of the two columns of `both` (n, 2), and its interval."""
    tau = float(kendalltau(both[:, 0], both[:, 1]).statistic)
    if len(both) < _LEAST_PAIRS or math.isnan(tau):
        return tau, math.nan, math.nan
    half = _QUANTILE * math.sqrt(0.437 / (len(both) - 4))
    centre = math.atanh(min(max(tau, -0.9999), 0.9999))
    return tau, math.tanh(centre - half), math.tanh(centre + half)


def _rung_choice(records: Sequence[TrialRecord], full: Choice, budget: float) -> tuple[float, float, float, bool]:
    """The shares chosen from a rung's `records`, and whether they are in the confidence region of the full schedule."""
    metric = full.signal.metric
    try:
        rung = choose(trials_table(records), candidates_table(records, budget, metric), budget, metric)
    except InsufficientTrials:
        return math.nan, math.nan, math.nan, False
    return *rung.shares.values, bool(full.may_be_optimum(np.array([rung.shares.values]))[0])
