"""Tables of planted records: rows, declared columns, order, and files with the same content."""

import dataclasses
import math
import statistics
from pathlib import Path

import pandas as pd
import pytest

from scalesearch.analysis.table_files import check_columns, read_table, write_tables
from scalesearch.analysis.tables import (
    CANDIDATE_COLUMNS,
    TRIAL_COLUMNS,
    candidates_table,
    seeds_note,
    trials_table,
)
from scalesearch.results.records import Failure, TrialRecord
from tests.planted import PlantedSurface, planted_records, with_balanced

HOSTILE = 'says "no",\r\n  then; =1+1\tnull \N{SNOWMAN}'


def records() -> list[TrialRecord]:
    """Fifteen candidates by three seeds; the second never finished, the third failed after two seeds."""
    planted = list(planted_records(PlantedSurface()))
    planted[1] = dataclasses.replace(planted[1], seeds=(), failure=Failure("diverged", HOSTILE))
    planted[2] = dataclasses.replace(planted[2], seeds=planted[2].seeds[:2], failure=Failure("interrupted", "stopped"))
    return planted


def test_trials_have_a_row_for_each_seed_and_each_failure() -> None:
    table = trials_table(records())
    assert len(table) == 13 * 3 + 1 + (2 + 1)
    assert table["status"].value_counts().to_dict() == {"done": 39, "partial": 2, "failed": 2}
    failed = table[table["status"] == "failed"]
    assert failed["seed"].isna().all()
    assert failed["val_loss"].isna().all()
    assert failed["failure"].tolist() == [
        'diverged: says "no", then; =1+1 null \N{SNOWMAN}',
        "interrupted: stopped",
    ]
    first, source = table.iloc[0], records()[0]
    assert first["seed"] == 0
    assert first["val_loss"] == source.seeds[0].val_loss
    assert first["train_loss"] == source.seeds[0].train_loss[-1]
    assert first["seconds"] == source.seeds[0].train_seconds
    assert first["epochs"] == 3
    assert first["macs_ratio"] == source.candidate.cost_ratio


def test_pruned_trials_keep_their_epochs_but_have_no_result() -> None:
    pruned = records()
    cut = dataclasses.replace(pruned[0].seeds[0], train_loss=(0.1,), val_loss_curve=(0.01,), val_accuracy_curve=(0.9,))
    pruned[0] = dataclasses.replace(pruned[0], seeds=(cut,), failure=Failure("pruned", "after 1 of 9 epochs"))
    rows = trials_table(pruned)
    rows = rows[rows["candidate"].eq(0)]
    assert rows["status"].tolist() == ["partial", "pruned"]
    assert rows["epochs"].tolist() == [1, 0]
    table = candidates_table(pruned, 2.0, "val_loss")
    assert table["status"].tolist() == ["done"] * 12 + ["pruned"] + ["failed"] * 2
    row = table.iloc[12]
    assert (row["candidate"], row["seeds"], row["tied"], row["failure"]) == (0, 0, False, "pruned: after 1 of 9 epochs")
    assert table.loc[12, ["val_loss", "val_accuracy", "chance", "seconds"]].isna().all()
    assert seeds_note(table) == "Pruned early and excluded from the choice: 1 more candidate."


def test_candidates_have_means_and_exact_costs() -> None:
    table = candidates_table(records(), 2.0, "val_loss").set_index("candidate")
    source = records()[5]
    row, losses = table.loc[5], [seed.val_loss for seed in source.seeds]
    assert row["val_loss"] == pytest.approx(statistics.mean(losses), rel=1e-14)
    assert row["val_loss_sd"] == pytest.approx(statistics.stdev(losses), rel=1e-12)
    assert row["macs"] == source.candidate.complexity.macs
    assert row["macs_error"] == pytest.approx(source.candidate.cost_ratio / 2 - 1, abs=1e-15)
    assert row["depths"] == " ".join(map(str, source.candidate.spec.depths))
    assert row["widths"] == " ".join(map(str, source.candidate.spec.widths))
    assert row["nominal_beta"] == source.candidate.nominal.beta
    assert row["alpha"] == source.candidate.coefficients.alpha
    assert row["seeds"] == 3
    shares = row[["depth_share", "width_share", "resolution_share"]].tolist()
    assert shares == list(source.candidate.shares.values)


@pytest.mark.parametrize(("metric", "best"), [("val_loss", min), ("val_accuracy", max)])
def test_candidates_are_ordered_from_the_best_with_failures_last(metric: str, best) -> None:
    table = candidates_table(records(), 2.0, metric)
    done = table[table["status"] == "done"]
    assert done.index.tolist() == list(range(13))
    assert done[metric].iloc[0] == best(done[metric])
    assert done[metric].is_monotonic_increasing == (best is min)
    assert done[metric].is_monotonic_decreasing == (best is max)
    # The partial trial is not ranked by the seeds that it finished.
    assert table["candidate"].tolist()[13:] == [2, 1]


def test_a_later_trial_of_a_network_replaces_the_earlier() -> None:
    failed = records()
    again = [*failed, planted_records(PlantedSurface())[1]]
    table = candidates_table(again, 2.0, "val_loss").set_index("candidate")
    assert len(table) == 15
    assert table.loc[1, "status"] == "done"
    assert table.loc[1, "failure"] == ""
    assert trials_table(again)["candidate"].iloc[-1] == 1
    assert trials_table(again)["trial"].iloc[-1] == 15


def test_one_seed_has_no_deviation() -> None:
    table = candidates_table(planted_records(PlantedSurface(), seeds=(4,)), 2.0, "val_loss")
    assert table["val_loss_sd"].isna().all()
    assert table["val_loss"].notna().all()


def test_no_records_are_empty_tables_of_the_same_columns() -> None:
    check_columns(trials_table([]), TRIAL_COLUMNS)
    check_columns(candidates_table([], 2.0, "val_loss"), CANDIDATE_COLUMNS)


def test_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(ValueError, match="`metric` must be one of val_loss, val_accuracy, but got 'loss'"):
        candidates_table(records(), 2.0, "loss")


@pytest.mark.parametrize("empty", [False, True])
def test_files_have_the_same_content(tmp_path: Path, empty: bool) -> None:
    source = [] if empty else records()
    tables = {"trials": trials_table(source), "candidates": candidates_table(source, 2.0, "val_loss")}
    paths = write_tables(tmp_path, tables["trials"], tables["candidates"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    assert len(paths) == 4
    for path in paths:
        pd.testing.assert_frame_equal(read_table(path), tables[path.stem], check_exact=True)


def test_balanced_accuracy_is_the_last_column_where_a_seed_has_it(tmp_path: Path) -> None:
    source = records()
    assert list(trials_table(source)) == list(TRIAL_COLUMNS)
    assert list(candidates_table(source, 2.0, "val_loss")) == list(CANDIDATE_COLUMNS)
    source[5:] = map(with_balanced, source[5:])  # earlier ones are of a release that recorded none
    source[7] = dataclasses.replace(source[7], seeds=source[7].seeds[:2])  # so that means are adjusted
    trials, candidates = trials_table(source), candidates_table(source, 2.0, "val_loss")
    assert list(trials) == [*TRIAL_COLUMNS, "val_balanced_accuracy"]
    assert list(candidates) == [*CANDIDATE_COLUMNS, "val_balanced_accuracy"]
    for table in (trials, candidates):
        known = table["candidate"].ge(5)
        assert table.loc[~known, "val_balanced_accuracy"].isna().all()
    seeds = trials[trials["candidate"].ge(5)]
    assert seeds["val_balanced_accuracy"].tolist() == (seeds["val_accuracy"] / 2).tolist()
    alone = candidates_table(source[5:], 2.0, "val_loss")
    assert alone["val_balanced_accuracy"].tolist() == pytest.approx((alone["val_accuracy"] / 2).tolist(), abs=1e-12)
    for path in write_tables(tmp_path, trials, candidates):
        table = trials if path.stem == "trials" else candidates
        pd.testing.assert_frame_equal(read_table(path), table, check_exact=True)


def test_writing_again_replaces_and_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    trials, candidates = trials_table(records()), candidates_table(records(), 2.0, "val_loss")
    write_tables(tmp_path, trials, candidates)
    write_tables(tmp_path, trials.head(2), candidates)
    assert len(read_table(tmp_path / "trials.csv")) == 2
    with pytest.raises(ValueError, match="the column `macs` must be int64, but got float64"):
        write_tables(tmp_path, trials.head(2), candidates.assign(macs=candidates["macs"].astype(float)))
    assert len(read_table(tmp_path / "candidates.csv")) == 15


def test_columns_are_enforced(tmp_path: Path) -> None:
    trials = trials_table(records())
    with pytest.raises(ValueError, match="the column `seed` is missing"):
        check_columns(trials.drop(columns="seed"), TRIAL_COLUMNS)
    with pytest.raises(ValueError, match="columns must be trial, candidate"):
        check_columns(trials.assign(extra=1), TRIAL_COLUMNS)
    with pytest.raises(ValueError, match=r"a table must be called .* but got 'runs.csv'"):
        read_table(tmp_path / "runs.csv")


def test_a_failed_trial_has_no_mean() -> None:
    row = candidates_table(records(), 2.0, "val_loss").set_index("candidate").loc[1]
    assert math.isnan(row["val_loss"])
    assert row["seeds"] == 0


def test_adjusted_means_are_noted() -> None:
    records = planted_records(PlantedSurface())
    assert seeds_note(candidates_table(records, 2.0, "val_loss")) == ""
    fewer = [dataclasses.replace(records[0], seeds=records[0].seeds[:1]), *records[1:]]
    assert "means are adjusted" in seeds_note(candidates_table(fewer, 2.0, "val_loss"))
