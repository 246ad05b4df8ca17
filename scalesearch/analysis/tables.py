"""Trials and candidates as DataFrames with declared columns, and their CSV and Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalesearch.analysis.comparison import compare, finished_runs, two_way
from scalesearch.analysis.metrics import METRICS, metric_of
from scalesearch.results.records import DONE, FAILED, PARTIAL, PRUNED, TrialRecord, candidate_numbers, merged_records
from scalesearch.runtime.files import write_whole
from scalesearch.runtime.text import plural
from scalesearch.scaling.feasible import Candidate

_SHARES: Mapping[str, str] = {
    "depth_share": "float64",
    "width_share": "float64",
    "resolution_share": "float64",
}

# Column → dtype. One row a (candidate, seed); one more, whose seed is missing, for each pruned or failed trial.
#   trial             position of the record in the sequence
#   candidate         number of the distinct network, in order of first appearance; the same in both tables
#   phi               level of the budget
#   status            done; partial: a seed of a trial that did not finish; pruned; failed
#   failure           kind: reason, on one line; empty where there is none
#   *_share           realised shares
#   macs_ratio        exact macs ÷ the baseline's
#   train_loss, val_* last epoch trained (nats, nats, fraction right)
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

# Column → dtype. One row a candidate, the best of a level first, then pruned ones, failed ones last; its trials are
# taken together, a later result of the same seed replacing an earlier one.
#   alpha, beta, gamma     realised: blocks, geometric-mean width, resolution over the baseline's
#   nominal_*              multipliers that scale to this network
#   phi                    level: its budget is B^φ
#   macs_error             macs_ratio ÷ B^φ − 1
#   depths, widths         blocks a stage; stem, stages and head (0: none), separated by spaces
#   seeds                  finished training runs behind the means
#   val_*, val_*_sd        mean and standard deviation over the seeds (the latter missing for one seed, both where
#                          pruned); where not all have the same seeds, the means are those without the seeds' effects
#   chance                 of being the best of the finished ones (missing where one seed each leaves it unknown)
#   tied                   whether the seeds cannot tell it from the best at 95 %
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

SHARE_COLUMNS = list(_SHARES)
TABLES: Mapping[str, Mapping[str, str]] = {"trials": TRIAL_COLUMNS, "candidates": CANDIDATE_COLUMNS}


def trials_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row a (candidate, seed), and one for each pruned or failed trial; columns are `TRIAL_COLUMNS`."""
    rows: list[tuple[Any, ...]] = []
    known: dict[int, tuple[float, ...]] = {}
    for trial, (record, number) in enumerate(zip(records, candidate_numbers(records), strict=True)):
        where, ratio = (trial, number, record.phi), record.candidate.macs_ratio
        shares = known.get(number) or known.setdefault(number, record.candidate.shares.values)
        speed = (record.images_per_second, record.compile_seconds, record.device)
        failure = _failure(record)
        status = PARTIAL if record.failure else DONE
        for seed in record.seeds:
            last = (seed.train_loss[-1], seed.val_loss, seed.val_accuracy, len(seed.train_loss), seed.train_seconds)
            rows.append((*where, seed.seed, status, failure, *shares, ratio, *last, *speed))
        if record.failure:
            nothing = (np.nan, np.nan, np.nan, 0, np.nan)
            rows.append((*where, pd.NA, record.status, failure, *shares, ratio, *nothing, *speed))
    return _typed(rows, TRIAL_COLUMNS)


def candidates_table(
    records: Sequence[TrialRecord], budget: float, metric: str, trials: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row a candidate, the best of a level by `metric` first, pruned ones behind them, failed ones last.

    Columns are `CANDIDATE_COLUMNS`. `budget` is the multiple of the baseline's macs that candidates were meant to cost.
    `trials` is the trials' table of the records, made here where it is not given. Raises `ValueError` for an unknown
    metric.
    """
    better = metric_of(metric)
    trials = trials_table(records) if trials is None else trials
    compared = compare(trials, metric).to_dict("index")
    merged = merged_records(records)
    rows = [_candidate_row(number, record, budget, compared.get(number, {})) for number, record in merged.items()]
    table = _typed(rows, CANDIDATE_COLUMNS)
    if len({len(record.seeds) for record in merged.values() if record.failure is None}) > 1:
        _level_seeds(table, trials)
    end = table["status"].map({DONE: 0, PRUNED: 1, FAILED: 2})
    value = -table[metric] if better.maximise else table[metric]
    order = pd.DataFrame({"end": end, "phi": table["phi"], "value": value, "candidate": table["candidate"]})
    return table.loc[order.sort_values(["end", "phi", "value", "candidate"]).index].reset_index(drop=True)


def finished_candidates(candidates: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of `candidates` (`CANDIDATE_COLUMNS`) that have a result, in their order."""
    rows: pd.DataFrame = candidates[candidates["status"].eq(DONE) & np.isfinite(candidates[metric])]
    return rows


def _level_seeds(table: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Take the seeds' effects out of the means: candidates do not have the same seeds."""
    for metric in METRICS:
        model = two_way(finished_runs(trials, metric), metric)
        means = table["candidate"].map(dict(zip(model.candidates, model.means.tolist(), strict=True)))
        table[metric] = means.fillna(table[metric])


def _candidate_row(number: int, record: TrialRecord, budget: float, compared: Mapping[Any, Any]) -> tuple[Any, ...]:
    candidate: Candidate = record.candidate
    own, nominal, cost, spec = candidate.coefficients, candidate.nominal, candidate.complexity, candidate.spec
    error = candidate.macs_ratio / budget**record.phi - 1
    seeds = () if record.status == PRUNED else record.seeds  # a seed cut short has no result to compare
    return (
        number,
        record.phi,
        *(own.alpha, own.beta, own.gamma),
        *candidate.shares.values,
        *(nominal.alpha, nominal.beta, nominal.gamma),
        *(cost.macs, candidate.macs_ratio, error, cost.params, cost.activations),
        *(_text(spec.depths), _text(spec.widths), spec.resolution),
        len(seeds),
        *_mean_and_sd([seed.val_loss for seed in seeds]),
        *_mean_and_sd([seed.val_accuracy for seed in seeds]),
        *(compared.get("chance", np.nan), compared.get("tied", False)),
        _mean_and_sd([seed.train_seconds for seed in seeds])[0],
        record.images_per_second,
        record.status,
        _failure(record),
    )


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n − 1) in plain floats: for a handful of seeds numpy's overhead is the cost."""
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
    """What is to be known of the means of `candidates` where not all have the same seeds; empty where they have."""
    told = []
    if pruned := int(candidates["status"].eq(PRUNED).sum()):
        told += [f"{plural(pruned, 'more candidate')} pruned, and left out of the choice: behind after fewer epochs."]
    if candidates.loc[candidates["status"].eq(DONE), "seeds"].nunique() > 1:
        told += ["Not every candidate has every seed: means are adjusted for what a seed does to all candidates."]
    return " ".join(told)


def _typed(rows: Sequence[tuple[Any, ...]], columns: Mapping[str, str]) -> pd.DataFrame:
    values = zip(*rows, strict=True) if rows else ((),) * len(columns)
    return pd.DataFrame(
        {name: pd.Series(list(column), dtype=columns[name]) for name, column in zip(columns, values, strict=True)}
    )


def check_columns(table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """Raises `ValueError` naming the first column that is missing, unknown, out of order or of another dtype."""
    for name, dtype in columns.items():
        if name not in table.columns:
            raise ValueError(f"the column `{name}` is missing; there are {', '.join(map(str, table.columns))}")
        if table[name].dtype != dtype:
            raise ValueError(f"the column `{name}` must be {dtype}, but got {table[name].dtype}")
    if list(table.columns) != list(columns):
        raise ValueError(f"columns must be {', '.join(columns)}, but got {', '.join(map(str, table.columns))}")


def write_tables(folder: Path, trials: pd.DataFrame, candidates: pd.DataFrame) -> tuple[Path, ...]:
    """Writes trials and candidates to `folder`, each as CSV and as Parquet with the same content.

    Each file is written beside its place and renamed, so that a reader never meets half a table.
    Raises `ValueError` for other columns than the declared ones, `OSError` where the folder cannot be written.
    """
    paths: list[Path] = []
    for name, table in (("trials", trials), ("candidates", candidates)):
        check_columns(table, TABLES[name])
        for suffix, write in ((".csv", _write_csv), (".parquet", _write_parquet)):
            paths.append(folder / f"{name}{suffix}")
            write_whole(paths[-1], partial(write, table))
    return tuple(paths)


def read_table(path: Path) -> pd.DataFrame:
    """The table of a file that `write_tables` wrote, told by its name (trials or candidates; csv or parquet)."""
    if path.stem not in TABLES or path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"a table must be called trials or candidates, .csv or .parquet, but got {path.name!r}")
    columns = TABLES[path.stem]
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
    else:
        # As text first: Python reads each float back to the last bit, whatever pandas' own parser does.
        text = pd.read_csv(path, dtype="str", keep_default_na=False)
        table = pd.DataFrame({name: _parsed(column, columns.get(str(name), "str")) for name, column in text.items()})
    check_columns(table, columns)
    return table


def _parsed(column: pd.Series, dtype: str) -> pd.Series:
    if dtype == "str":
        return column
    if dtype == "bool":
        return column.eq("True")
    missing = pd.NA if dtype == "Int64" else np.nan
    convert = float if dtype == "float64" else int
    return pd.Series([convert(value) if value else missing for value in column], dtype=dtype)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False)
