"""The tables of trials and candidates as CSV and Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from scalesearch.analysis.statistics import FloatArray
from scalesearch.analysis.tables import CANDIDATE_COLUMNS, OPTIONAL_COLUMNS, TRIAL_COLUMNS
from scalesearch.runtime.files import write_whole
from scalesearch.scaling.simplex import NAMES

_COLUMNS: Mapping[str, Mapping[str, str]] = {"trials": TRIAL_COLUMNS, "candidates": CANDIDATE_COLUMNS}


def write_tables(folder: Path, trials: pd.DataFrame, candidates: pd.DataFrame) -> tuple[Path, ...]:
    """Write both tables to `folder`, each as CSV and as Parquet with the same content; returns the paths.

    Each file is written under a temporary name and renamed, so that a reader never sees an incomplete table.
    Raises `ValueError` for columns other than the declared ones, `OSError` if the folder cannot be written.
    """
    paths: list[Path] = []
    for name, table in (("trials", trials), ("candidates", candidates)):
        check_columns(table, _COLUMNS[name])
        for suffix, write in ((".csv", _write_csv), (".parquet", _write_parquet)):
            paths.append(folder / f"{name}{suffix}")
            write_whole(paths[-1], partial(write, table))
    return tuple(paths)


# Number of points of a confidence region that are written, at most.
MOST_POINTS = 500


def write_region(folder: Path, points: FloatArray | None) -> None:
    """Write points (M, 3) of the confidence region as region.csv: shares of depth, width and resolution.

    At most `MOST_POINTS`, evenly chosen, to four digits. Without a region (None) an earlier file is removed. Raises
    `OSError` if the folder cannot be written.
    """
    if points is None:
        (folder / "region.csv").unlink(missing_ok=True)
        return
    chosen = np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).round().astype(int)
    table = pd.DataFrame(points[chosen].round(4), columns=list(NAMES))
    write_whole(folder / "region.csv", partial(_write_csv, table))


def read_table(path: Path) -> pd.DataFrame:
    """The table of a file that `write_tables` wrote; its name says which (trials or candidates; csv or parquet).

    Raises `ValueError` for another name or for other columns.
    """
    if path.stem not in _COLUMNS or path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"a table must be called trials or candidates, .csv or .parquet, but got {path.name!r}")
    columns = {**_COLUMNS[path.stem], **OPTIONAL_COLUMNS}
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
    else:
        # As text first: Python's float() reads each number exactly, which pandas' own parser may not.
        text = pd.read_csv(path, dtype="str", keep_default_na=False)
        table = pd.DataFrame({name: _parsed(column, columns.get(str(name), "str")) for name, column in text.items()})
    check_columns(table, _COLUMNS[path.stem])
    return table


def check_columns(table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """Check that `table` has exactly `columns` (name → dtype), in order, and after them at most `OPTIONAL_COLUMNS`.

    Raises `ValueError` with the first column that is missing, unknown, out of order or of another dtype.
    """
    columns = {**columns, **{name: dtype for name, dtype in OPTIONAL_COLUMNS.items() if name in table.columns}}
    for name, dtype in columns.items():
        if name not in table.columns:
            raise ValueError(f"the column `{name}` is missing; there are {', '.join(map(str, table.columns))}")
        if table[name].dtype != dtype:
            raise ValueError(f"the column `{name}` must be {dtype}, but got {table[name].dtype}")
    if list(table.columns) != list(columns):
        raise ValueError(f"columns must be {', '.join(columns)}, but got {', '.join(map(str, table.columns))}")


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
