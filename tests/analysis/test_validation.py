"""A rule compared with rivals: planted differences, simultaneous intervals, and the verdict in words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

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
from tests.planted import with_losses

NAMES = ("the rule", "depth only", "width only", "equal shares")


def named(records: list[TrialRecord]) -> dict[ArchitectureSpec, tuple[str, ...]]:
    return {record.candidate.spec: (name,) for record, name in zip(records, NAMES, strict=True)}


def losses(sd: float | Sequence[float], seeds: int = 4, key: int = 0) -> np.ndarray:
    random = np.random.default_rng(key)
    planted = np.array([1.0, 1.1, 1.0, 0.9])
    noise, effects = np.reshape(sd, (-1, 1)) * random.standard_normal((4, seeds)), random.standard_normal((1, seeds))
    return planted[:, None] + noise + effects


def test_planted_differences_are_found_and_put_into_words() -> None:
    records = with_losses(losses(0.01))
    table = validation_table(records, named(records), "the rule", "val_loss")
    assert list(table.columns) == list(COLUMNS)
    assert table["rivals"].tolist() == ["the rule", "equal shares", "width only", "depth only"]
    assert table["verdict"].tolist() == ["", "worse", "tied", "better"]
    # Means of four runs with an error of 0.01: a difference is known to 0.007; four of them.
    assert table["better_by"].to_numpy() == pytest.approx([0, -0.1, 0, 0.1], abs=0.03)
    assert verdict(table) == (
        "At equal macs the rule's network (the rule) is better than depth only; not distinguishable from width only; "
        "worse than equal shares. With fewer than 5 seeds only large differences show."
    )


def test_the_intervals_by_hand() -> None:
    """Student's t of the four paired differences, Bonferroni over three rivals."""
    y = losses(0.05)
    table = validation_table(with_losses(y), named(with_losses(y)), "the rule", "val_loss").set_index("rivals")
    differences = y[1] - y[0]
    half = student.ppf(1 - 0.05 / 6, 3) * differences.std(ddof=1) / 2
    row = table.loc["depth only"]
    expected = (differences.mean() - half, differences.mean() + half)
    assert (row["low"], row["high"]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sd", [0.05, (0.05, 0.25, 0.05, 0.05), (0.25, 0.05, 0.05, 0.05)])
def test_the_intervals_hold_simultaneously_as_often_as_stated_even_if_one_network_is_noisier(
    sd: float | Sequence[float],
) -> None:
    """95 % or more of 200 (sd 3.1): at least 178."""
    held = 0
    for key in range(200):
        records = with_losses(losses(sd, key=key))
        table = validation_table(records, named(records), "the rule", "val_loss").set_index("rivals")
        truth = {"depth only": 0.1, "width only": 0.0, "equal shares": -0.1}
        held += all(table.loc[name, "low"] <= value <= table.loc[name, "high"] for name, value in truth.items())
    assert held >= 178


def test_a_noisy_rival_widens_only_its_own_interval() -> None:
    records = with_losses(losses((0.01, 0.5, 0.01, 0.01), seeds=6))
    table = validation_table(records, named(records), "the rule", "val_loss").set_index("rivals")
    assert table.loc["equal shares", "verdict"] == "worse"
    assert table.loc["depth only", "verdict"] == "tied"


def test_differences_that_are_all_equal_give_no_interval() -> None:
    records = with_losses(np.array([[0.5, 0.4], [0.6, 0.5], [0.5, 0.4], [0.4, 0.31]]))
    table = validation_table(records, named(records), "the rule", "val_loss").set_index("rivals")
    assert table.loc[["depth only", "width only"], "verdict"].tolist() == ["unknown", "unknown"]
    assert table.loc["equal shares", "verdict"] == "tied"


def test_a_second_use_of_the_test_split_is_remembered(tmp_path: Path) -> None:
    def validation(key: int) -> Validation:
        records = with_losses(losses(0.01, key=key, seeds=3 + key))
        table = validation_table(records, named(records), "the rule", "val_loss")
        return Validation(2.0, 4.0, f"2026-11-2{key}", "digest", verdict(table), table)

    save_validation(tmp_path, validation(1))
    (first,) = read_validations(tmp_path)
    assert first.reading == "The test split was used once at this φ, on 2026-11-21."
    save_validation(tmp_path, validation(1))  # running the command again trains nothing
    assert read_validations(tmp_path)[0].earlier == ()
    save_validation(tmp_path, validation(2))
    (second,) = read_validations(tmp_path)
    assert second.earlier == (validation(1).mark(),)
    assert second.reading.startswith("The test split was used 2 times at this φ (other uses: 2026-11-21 with 4 seeds)")
    save_validation(tmp_path, validation(2))
    assert len(read_validations(tmp_path)[0].earlier) == 1
    save_validation(tmp_path, validation(1))  # the first is remembered again
    (back,) = read_validations(tmp_path)
    assert back.earlier == (validation(2).mark(),)


def test_more_is_better_for_accuracy() -> None:
    records = with_losses(losses(0.01))
    table = validation_table(records, named(records), "the rule", "val_accuracy").sort_values("value")
    assert (np.diff(table["better_by"]) < 0).all()


def test_one_seed_compares_nothing_and_the_rule_must_have_a_result() -> None:
    records = with_losses(losses(0.01, seeds=1))
    table = validation_table(records, named(records), "the rule", "val_loss")
    assert table["verdict"].tolist() == ["", "unknown", "unknown", "unknown"]
    assert table["low"].isna().all()
    assert "not comparable (fewer than two differing seeds) with" in verdict(table)
    with pytest.raises(ValueError, match="the network of the rule must have a result, but has none"):
        validation_table(records[1:], named(records), "the rule", "val_loss")
