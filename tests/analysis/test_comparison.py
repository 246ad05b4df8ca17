"""Candidates compared: Dunnett's constant, the tied set's coverage, chances against a closed form."""

import numpy as np
import pytest
from scipy.stats import t as student
from tests.analysis.test_selection import with_losses

from scalesearch.analysis.comparison import _critical, compare
from scalesearch.analysis.tables import candidates_table, trials_table


def test_the_constant_is_dunnetts():
    """Students' for one other; for two, Dunnett, J. Am. Stat. Assoc. 50 (1955), Table 1a; for more, by simulation."""
    assert _critical(3.0, np.array([3.0]), np.array([1]), 10) == pytest.approx(student.ppf(0.95, 10), abs=0.003)
    assert _critical(3.0, np.array([3.0]), np.array([2]), 10) == pytest.approx(2.15, abs=0.005)
    random = np.random.default_rng(0)
    sizes, others = np.array([2.0, 5.0]), np.array([4, 6])  # the candidate has 2 runs, as four of the others
    z, chi = random.standard_normal((200_000, 11)), np.sqrt(random.chisquare(12, 200_000) / 12)
    counts = np.array([2.0] + [2.0] * 4 + [5.0] * 6)
    means = z / np.sqrt(counts)
    behind = (means[:, :1] - means[:, 1:]) / np.sqrt(1 / counts[0] + 1 / counts[1:])
    # 200,000 draws: the quantile is known to about 0.006; three of them.
    expected = np.quantile(behind.max(axis=1) / chi, 0.95)
    assert _critical(2.0, sizes, others, 12) == pytest.approx(expected, abs=0.018)


def test_the_truly_best_is_tied_as_often_as_stated():
    """The least favourable case, all alike but one: 95 % of 400, sd 4.4, four of them; most others drop out."""
    random, held, tied = np.random.default_rng(1), 0, []
    for _ in range(400):
        losses = 1 + 0.01 * random.standard_normal((8, 3)) + 0.1 * random.standard_normal((1, 3))
        losses[4:] += 0.05
        found = compare(trials_table(with_losses(losses)), "val_loss")["tied"]
        held += bool(found[0])
        tied.append(int(found[4:].sum()))
    assert 362 <= held <= 398
    assert np.mean(tied) < 0.1


def test_the_best_by_its_mean_is_tied_with_itself_and_chances_sum_to_one():
    losses = 1 + 0.01 * np.random.default_rng(2).standard_normal((10, 3))
    losses[7] -= 0.1
    found = compare(trials_table(with_losses(losses)), "val_loss")
    assert found.index[found["tied"]].tolist() == [7]
    assert found["chance"].sum() == pytest.approx(1.0, abs=1e-12)
    assert found["chance"][7] > 0.999


def test_two_candidates_chance_is_students():
    """P(mean 1 < mean 2) drawn anew: Student's t of their difference ÷ (s · √(2/n)) with (2 − 1)(n − 1) degrees."""
    losses = np.array([[1.00, 1.02, 1.05, 0.99], [1.03, 1.01, 1.06, 1.04]])
    found = compare(trials_table(with_losses(losses)), "val_loss")
    difference = losses[1] - losses[0]
    t = difference.mean() / (difference.std(ddof=1) / 2)
    # 20,000 draws: a chance is known to 0.0035; four of them.
    assert found["chance"][0] == pytest.approx(student.cdf(t, 3), abs=0.014)


def test_one_seed_leaves_all_tied_and_no_chance_known():
    records = with_losses(np.linspace(1, 2, 6)[:, None])
    found = compare(trials_table(records), "val_loss")
    assert found["tied"].all()
    assert found["chance"].isna().all()
    table = candidates_table(records, 2.0, "val_loss")
    assert table["tied"].all()


def test_a_candidate_with_fewer_seeds_is_harder_to_rule_out():
    losses = 1 + 0.01 * np.random.default_rng(5).standard_normal((6, 6))
    losses[:5] -= losses[:5].mean(axis=1, keepdims=True) - 1  # means exactly 1
    losses[5] -= losses[5].mean() - 1.0145
    whole = compare(trials_table(with_losses(losses)), "val_loss")
    assert not whole["tied"][5]
    fewer = losses.copy()
    fewer[5, 2:] = np.nan
    fewer[5, :2] += 1.0145 - np.nanmean(fewer[5])
    assert compare(trials_table(with_losses(fewer)), "val_loss")["tied"][5]


def test_the_table_carries_them(tmp_path):
    losses = 1 + 0.01 * np.random.default_rng(2).standard_normal((10, 3))
    records = with_losses(losses)
    table, found = candidates_table(records, 2.0, "val_loss"), compare(trials_table(records), "val_loss")
    for row in table.to_dict("records"):
        assert (row["chance"], row["tied"]) == tuple(found.loc[row["candidate"]])
