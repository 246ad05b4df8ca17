"""A rule against rivals: planted differences, intervals that hold together, and the verdict in words."""

import numpy as np
import pytest
from scipy.stats import t as student

from scalesearch.analysis.validation import COLUMNS, validation_table, verdict
from scalesearch.records import TrialRecord
from scalesearch.scaling.architecture import ArchitectureSpec
from tests.analysis.test_selection import with_losses

NAMES = ("the rule", "depth only", "width only", "equal shares")


def named(records: list[TrialRecord]) -> dict[ArchitectureSpec, tuple[str, ...]]:
    return {record.candidate.spec: (name,) for record, name in zip(records, NAMES, strict=True)}


def losses(sd: float, seeds: int = 4, key: int = 0) -> np.ndarray:
    random = np.random.default_rng(key)
    planted = np.array([1.0, 1.1, 1.0, 0.9])
    return planted[:, None] + sd * random.standard_normal((4, seeds)) + random.standard_normal((1, seeds))


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
        "worse than equal shares."
    )


def test_the_intervals_by_hand():
    """Bonferroni over three rivals; the error of the two-way model has (4 − 1)(4 − 1) degrees of freedom."""
    y = losses(0.05)
    table = validation_table(with_losses(y), named(with_losses(y)), "the rule", "val_loss").set_index("rivals")
    residual = y - y.mean(1, keepdims=True) - y.mean(0, keepdims=True) + y.mean()
    half = student.ppf(1 - 0.05 / 6, 9) * np.sqrt((residual**2).sum() / 9 * 2 / 4)
    row = table.loc["depth only"]
    difference = y[1].mean() - y[0].mean()
    assert (row["low"], row["high"]) == pytest.approx((difference - half, difference + half), rel=1e-9)


def test_they_hold_together_as_often_as_stated():
    """95 % or more of 300 (sd 3.8): at least 270."""
    held = 0
    for key in range(300):
        records = with_losses(losses(0.05, key=key))
        table = validation_table(records, named(records), "the rule", "val_loss").set_index("rivals")
        truth = {"depth only": 0.1, "width only": 0.0, "equal shares": -0.1}
        held += all(table.loc[name, "low"] <= value <= table.loc[name, "high"] for name, value in truth.items())
    assert held >= 270


def test_more_is_better_for_accuracy():
    records = with_losses(losses(0.01))
    found = validation_table(records, named(records), "the rule", "val_accuracy").sort_values("value")
    assert (np.diff(found["better_by"]) < 0).all()


def test_one_seed_compares_nothing_and_the_rule_must_have_a_result():
    records = with_losses(losses(0.01, seeds=1))
    table = validation_table(records, named(records), "the rule", "val_loss")
    assert table["verdict"].tolist() == ["", "unknown", "unknown", "unknown"]
    assert table["low"].isna().all()
    assert "for want of a second seed" in verdict(table)
    with pytest.raises(ValueError, match="the rule's own network has no result"):
        validation_table(records[1:], named(records), "the rule", "val_loss")
