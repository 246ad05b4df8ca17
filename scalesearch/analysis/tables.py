"""Trials and candidates as data frames with declared columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scalesearch.analysis.comparison import compare, finished_runs, two_way
from scalesearch.analysis.metrics import METRICS, metric_of
from scalesearch.results.records import DONE, FAILED, PARTIAL, PRUNED, TrialRecord, candidate_numbers, merged_records
from scalesearch.runtime.text import plural
from scalesearch.scaling.feasible import Candidate

_SHARES: Mapping[str, str] = {
    "depth_share": "float64",
    "width_share": "float64",
    "resolution_share": "float64",
}

# Column → dtype. One row for each (candidate, seed), and one without a seed for each pruned or failed trial.
#   trial             position of the record in the sequence
#   candidate         number of the distinct network, in order of first appearance; the same in both tables
#   phi               level of the budget
#   status            done; partial (a seed of a trial that did not finish); pruned; failed
#   failure           kind: reason, on one line; empty if there is none
#   *_share           shares of real cost
#   macs_ratio        exact macs ÷ the baseline's
#   train_loss, val_* values after the last epoch (nats, nats, fraction right)
#   epochs            epochs trained
#   seconds           training time of this seed, without compilation
#   images_per_second, compile_seconds: of the whole trial
TRIAL_COLUMNS: Mapping[str, str] = {
    "trial": "int64",
    "candidate": "int64",
    "phi": "float64",
    "seed": "Int64",
    "status": "str",
    "failure": "str",
    **_SHARES,
    "macs_ratio": "float64",
    "train_loss": "float64",
    "val_loss": "float64",
    "val_accuracy": "float64",
    "epochs": "int64",
    "seconds": "float64",
    "images_per_second": "float64",
    "compile_seconds": "float64",
    "device": "str",
}

# Column → dtype. One row for each candidate: finished ones, the best of each level first, then pruned, then failed
# ones. The trials of a candidate are merged; a later result of the same seed replaces an earlier one.
#   alpha, beta, gamma     realised: blocks, geometric-mean width, resolution over the baseline's
#   nominal_*              multipliers that scale to this network
#   phi                    level: its budget is B^φ
#   macs_error             macs_ratio ÷ B^φ − 1
#   depths, widths         blocks of each stage; widths of stem, stages and head (0: no head); separated by spaces
#   seeds                  number of finished training runs
#   val_*, val_*_sd        mean and standard deviation over the seeds (the latter missing for one seed, both if
#                          pruned); if candidates have different seeds, the means are without the seeds' effects
#   chance                 chance of being the best finished candidate (missing if one seed each leaves it unknown)
#   tied                   whether the seeds cannot distinguish it from the best at 95 %
#   seconds                mean training time of a seed
CANDIDATE_COLUMNS: Mapping[str, str] = {
    "candidate": "int64",
    "phi": "float64",
    "alpha": "float64",
    "beta": "float64",
    "gamma": "float64",
    **_SHARES,
    "nominal_alpha": "float64",
    "nominal_beta": "float64",
    "nominal_gamma": "float64",
    "macs": "int64",
    "macs_ratio": "float64",
    "macs_error": "float64",
    "params": "int64",
    "activations": "int64",
    "depths": "str",
    "widths": "str",
    "resolution": "int64",
    "seeds": "int64",
    "val_loss": "float64",
    "val_loss_sd": "float64",
    "val_accuracy": "float64",
    "val_accuracy_sd": "float64",
    "chance": "float64",
    "tied": "bool",
    "seconds": "float64",
    "images_per_second": "float64",
    "status": "str",
    "failure": "str",
}

# Columns after those above, in both tables, if a seed has a value: balanced accuracy after the last epoch, or its mean.
OPTIONAL_COLUMNS: Mapping[str, str] = {"val_balanced_accuracy": "float64"}

SHARE_COLUMNS = list(_SHARES)


def trials_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """The table of all seeds of `records`, with a row for each pruned or failed trial; columns are `TRIAL_COLUMNS`."""
    rows: list[tuple[Any, ...]] = []
    shares_of: dict[int, tuple[float, ...]] = {}
    for trial, (record, number) in enumerate(zip(records, candidate_numbers(records), strict=True)):
        key, ratio = (trial, number, record.phi), record.candidate.cost_ratio
        shares = shares_of.get(number) or shares_of.setdefault(number, record.candidate.shares.values)
        speed = (record.images_per_second, record.compile_seconds, record.device)
        failure = _failure(record)
        status = PARTIAL if record.failure else DONE
        for seed in record.seeds:
            last = (seed.train_loss[-1], seed.val_loss, seed.val_accuracy, len(seed.train_loss), seed.train_seconds)
            rows.append((*key, seed.seed, status, failure, *shares, ratio, *last, *speed, seed.val_balanced_accuracy))
        if record.failure:
            no_result = (np.nan, np.nan, np.nan, 0, np.nan)
            rows.append((*key, pd.NA, record.status, failure, *shares, ratio, *no_result, *speed, np.nan))
    return _typed(rows, TRIAL_COLUMNS)


def candidates_table(
    records: Sequence[TrialRecord], budget: float, metric: str, trials: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The table of the candidates of `records`; columns are `CANDIDATE_COLUMNS`.

    Args:
        records: trials of a study.
        budget: the study's budget B.
        metric: the metric by which candidates are ordered.
        trials: the table of the same records from `trials_table`, if there is one already.

    Raises:
        ValueError: if the metric is unknown.
    """
    maximise = metric_of(metric).maximise
    trials = trials_table(records) if trials is None else trials
    compared = compare(trials, metric).to_dict("index")
    merged = merged_records(records)
    rows = [_candidate_row(number, record, budget, compared.get(number, {})) for number, record in merged.items()]
    table = _typed(rows, CANDIDATE_COLUMNS)
    if len({len(record.seeds) for record in merged.values() if record.failure is None}) > 1:
        _remove_seed_effects(table, trials)

    # Order by status, level, metric; the number decides between equals.
    group = table["status"].map({DONE: 0, PRUNED: 1, FAILED: 2})
    value = -table[metric] if maximise else table[metric]
    order = pd.DataFrame({"group": group, "phi": table["phi"], "value": value, "candidate": table["candidate"]})
    return table.loc[order.sort_values(["group", "phi", "value", "candidate"]).index].reset_index(drop=True)


def finished_candidates(candidates: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of `candidates` (`CANDIDATE_COLUMNS`) that have a result, in the same order."""
    rows: pd.DataFrame = candidates[candidates["status"].eq(DONE) & np.isfinite(candidates[metric])]
    return rows


def _remove_seed_effects(table: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Remove the seeds' effects from the means in `table`, whose candidates have different seeds."""
    for metric in (*METRICS, *(name for name in OPTIONAL_COLUMNS if name in table)):
        model = two_way(finished_runs(trials, metric), metric)
        means = table["candidate"].map(dict(zip(model.candidates, model.means.tolist(), strict=True)))
        table[metric] = means.fillna(table[metric])


def _candidate_row(number: int, record: TrialRecord, budget: float, compared: Mapping[Any, Any]) -> tuple[Any, ...]:
    candidate: Candidate = record.candidate
    realised, nominal, cost, spec = candidate.coefficients, candidate.nominal, candidate.complexity, candidate.spec
    error = candidate.cost_ratio / budget**record.phi - 1
    seeds = () if record.status == PRUNED else record.seeds  # a pruned seed has no result to compare
    return (
        number,
        record.phi,
        *(realised.alpha, realised.beta, realised.gamma),
        *candidate.shares.values,
        *(nominal.alpha, nominal.beta, nominal.gamma),
        *(cost.macs, candidate.cost_ratio, error, cost.params, cost.activations),
        *(_text(spec.depths), _text(spec.widths), spec.resolution),
        len(seeds),
        *_mean_and_sd([seed.val_loss for seed in seeds]),
        *_mean_and_sd([seed.val_accuracy for seed in seeds]),
        *(compared.get("chance", np.nan), compared.get("tied", False)),
        _mean_and_sd([seed.train_seconds for seed in seeds])[0],
        record.images_per_second,
        record.status,
        _failure(record),
        _mean_and_sd([seed.val_balanced_accuracy for seed in seeds])[0],
    )


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n − 1), in plain Python: for a few values numpy's overhead dominates."""
    if not values:
        return (np.nan, np.nan)
    mean = sum(values) / len(values)
    if len(values) == 1:
        return (mean, np.nan)
    return (mean, (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5)


def _text(sizes: Iterable[int]) -> str:
    return " ".join(map(str, sizes))


def _failure(record: TrialRecord) -> str:
    if record.failure is None:
        return ""
    return f"{record.failure.kind}: {' '.join(record.failure.reason.split())}"


def seeds_note(candidates: pd.DataFrame) -> str:
    """Which of `candidates` were pruned, and whether their means are adjusted, in sentences; empty if neither."""
    sentences = []
    if pruned := int(candidates["status"].eq(PRUNED).sum()):
        sentences.append(f"Pruned early and excluded from the choice: {plural(pruned, 'more candidate')}.")
    if candidates.loc[candidates["status"].eq(DONE), "seeds"].nunique() > 1:
        sentences.append("Candidates have different numbers of seeds: the means are adjusted for the seeds' effects.")
    return " ".join(sentences)


def _typed(rows: Sequence[tuple[Any, ...]], columns: Mapping[str, str]) -> pd.DataFrame:
    """The table of `rows`, which have a value for each of `columns` and `OPTIONAL_COLUMNS`."""
    columns = {**columns, **OPTIONAL_COLUMNS}
    values = zip(*rows, strict=True) if rows else ((),) * len(columns)
    table = pd.DataFrame(
        {name: pd.Series(list(column), dtype=columns[name]) for name, column in zip(columns, values, strict=True)}
    )
    return table.drop(columns=[name for name in OPTIONAL_COLUMNS if table[name].isna().all()])
