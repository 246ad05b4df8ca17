"""A rule against rivals: planted differences, intervals that hold together, and the verdict in words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student
from tests.analysis.test_selection import with_losses

from scalesearch.analysis.validation import (
    COLUMNS,
    Validation,
    read_validations,
    save_validation,
    validation_table,
    verdict,
)
from scalesearch.results.records import TrialRecord
from scalesearch.scaling.architecture import ArchitectureSpec

NAMES = ("the rule", "depth only", "width only", "equal shares")


def named(records: list[TrialRecord]) -> dict[ArchitectureSpec, tuple[str, ...]]:
    return {record.candidate.spec: (name,) for record, name in zip(records, NAMES, strict=True)}


def losses(sd: float | Sequence[float], seeds: int = 4, key: int = 0) -> np.ndarray:
    random = np.random.default_rng(key)
    planted = np.array([1.0, 1.1, 1.0, 0.9])
    noise, own = np.reshape(sd, (-1, 1)) * random.standard_normal((4, seeds)), random.standard_normal((1, seeds))
    return planted[:, None] + noise + own


def test_planted_differences_are_found_and_told():
    records = with_losses(losses(0.01))
    table = validation_table(records, named(records), "the rule", "val_loss")
    assert list(table.columns) == list(COLUMNS)
    assert table["rivals"].tolist() == ["the rule", "equal shares", "width only", "depth only"]
    assert table["verdict"].tolist() == ["", "worse", "tied", "better"]
    # Means of four runs with an error of 0.01: a difference is known to 0.007; four of them.
    assert table["better_by"].to_numpy() == pytest.approx([0, -0.1, 0, 0.1], abs=0.03)
    assert verdict(table) == (
        "At equal macs the rule's network (the rule) is better than depth only; not distinguishable from width only; "
        "worse than equal shares. Fewer than 5 seeds show large differences only."
    )


def test_the_intervals_by_hand():
    """Student's t of the four paired differences, Bonferroni over three rivals."""
    y = losses(0.05)
    table = validation_table(with_losses(y), named(with_losses(y)), "the rule", "val_loss").set_index("rivals")
    differences = y[1] - y[0]
    half = student.ppf(1 - 0.05 / 6, 3) * differences.std(ddof=1) / 2
    row = table.loc["depth only"]
    expected = (differences.mean() - half, differences.mean() + half)
    assert (row["low"], row["high"]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sd", [0.05, (0.05, 0.25, 0.05, 0.05), (0.25, 0.05, 0.05, 0.05)])
def test_they_hold_together_as_often_as_stated_even_where_one_network_is_noisier(sd: float | Sequence[float]):
    """95 % or more of 200 (sd 3.1): at least 178."""
    held = 0
    for key in range(200):
        records = with_losses(losses(sd, key=key))
        table = validation_table(records, named(records), "the rule", "val_loss").set_index("rivals")
        truth = {"depth only": 0.1, "width only": 0.0, "equal shares": -0.1}
        held += all(table.loc[name, "low"] <= value <= table.loc[name, "high"] for name, value in truth.items())
    assert held >= 178


def test_a_noisy_rival_does_not_hide_what_the_seeds_say_of_the_others():
    records = with_losses(losses((0.01, 0.5, 0.01, 0.01), seeds=6))
    table = validation_table(records, named(records), "the rule", "val_loss").set_index("rivals")
    assert table.loc["equal shares", "verdict"] == "worse"
    assert table.loc["depth only", "verdict"] == "tied"


def test_differences_that_are_all_the_same_say_nothing_of_the_noise():
    records = with_losses(np.array([[0.5, 0.4], [0.6, 0.5], [0.5, 0.4], [0.4, 0.31]]))
    table = validation_table(records, named(records), "the rule", "val_loss").set_index("rivals")
    assert table.loc[["depth only", "width only"], "verdict"].tolist() == ["unknown", "unknown"]
    assert table.loc["equal shares", "verdict"] == "tied"


def test_a_second_reading_of_the_test_split_is_remembered(tmp_path: Path):
    def validation(key: int) -> Validation:
        records = with_losses(losses(0.01, key=key, seeds=3 + key))
        table = validation_table(records, named(records), "the rule", "val_loss")
        return Validation(2.0, 4.0, f"2026-11-2{key}", "digest", verdict(table), table)

    save_validation(tmp_path, validation(1))
    (first,) = read_validations(tmp_path)
    assert first.reading == "The test split was read once at this φ, on 2026-11-21."
    save_validation(tmp_path, validation(1))  # the command run again trains nothing and reads nothing
    assert read_validations(tmp_path)[0].earlier == ()
    save_validation(tmp_path, validation(2))
    (second,) = read_validations(tmp_path)
    assert second.earlier == (validation(1).mark(),)
    assert second.reading.startswith("The test split was read 2 times at this φ (others: 2026-11-21 with 4 seeds)")
    save_validation(tmp_path, validation(2))
    assert len(read_validations(tmp_path)[0].earlier) == 1
    save_validation(tmp_path, validation(1))  # what is stored under the first is found there again
    (back,) = read_validations(tmp_path)
    assert back.earlier == (validation(2).mark(),)


def test_more_is_better_for_accuracy():
    records = with_losses(losses(0.01))
    found = validation_table(records, named(records), "the rule", "val_accuracy").sort_values("value")
    assert (np.diff(found["better_by"]) < 0).all()


def test_one_seed_compares_nothing_and_the_rule_must_have_a_result():
    records = with_losses(losses(0.01, seeds=1))
    table = validation_table(records, named(records), "the rule", "val_loss")
    assert table["verdict"].tolist() == ["", "unknown", "unknown", "unknown"]
    assert table["low"].isna().all()
    assert "for want of seeds that differ" in verdict(table)
    with pytest.raises(ValueError, match="the rule's own network has no result"):
        validation_table(records[1:], named(records), "the rule", "val_loss")
