"""The comparison of candidates: Dunnett's critical value, coverage of the tied set, chances against a closed form."""

import numpy as np
import pytest
from scipy.stats import t as student

from scalesearch.analysis.comparison import compare, critical_value
from scalesearch.analysis.tables import candidates_table, trials_table
from tests.planted import with_losses


def test_the_critical_value_is_dunnetts() -> None:
    """For one other Student's; for two, Dunnett, J. Am. Stat. Assoc. 50 (1955), Table 1a; for more, by simulation."""
    assert critical_value(3.0, np.array([3.0]), np.array([1]), 10) == pytest.approx(student.ppf(0.95, 10), abs=0.003)
    assert critical_value(3.0, np.array([3.0]), np.array([2]), 10) == pytest.approx(2.15, abs=0.005)
    random = np.random.default_rng(0)
    sizes, others = np.array([2.0, 5.0]), np.array([4, 6])  # the candidate has 2 runs, as four of the others
    z, chi = random.standard_normal((200_000, 11)), np.sqrt(random.chisquare(12, 200_000) / 12)
    counts = np.array([2.0] + [2.0] * 4 + [5.0] * 6)
    means = z / np.sqrt(counts)
    behind = (means[:, :1] - means[:, 1:]) / np.sqrt(1 / counts[0] + 1 / counts[1:])
    # 200,000 draws: the quantile is known to about 0.006; three of them.
    expected = np.quantile(behind.max(axis=1) / chi, 0.95)
    assert critical_value(2.0, sizes, others, 12) == pytest.approx(expected, abs=0.018)


def test_the_truly_best_is_tied_as_often_as_stated() -> None:
    """The least favourable case, four equally good and four worse: 95 % of 200 (sd 3.1, four of them)."""
    random, held, tied = np.random.default_rng(1), 0, []
    for _ in range(200):
        losses = 1 + 0.01 * random.standard_normal((8, 3)) + 0.1 * random.standard_normal((1, 3))
        losses[4:] += 0.05
        compared = compare(trials_table(with_losses(losses)), "val_loss")["tied"]
        held += bool(compared[0])
        tied.append(int(compared[4:].sum()))
    assert 178 <= held <= 199
    assert np.mean(tied) < 0.1


def test_the_best_by_its_mean_is_tied_with_itself_and_chances_sum_to_one() -> None:
    losses = 1 + 0.01 * np.random.default_rng(2).standard_normal((10, 3))
    losses[7] -= 0.1
    compared = compare(trials_table(with_losses(losses)), "val_loss")
    assert compared.index[compared["tied"]].tolist() == [7]
    assert compared["chance"].sum() == pytest.approx(1.0, abs=1e-12)
    assert compared["chance"][7] > 0.999


def test_the_chance_of_two_candidates_is_students() -> None:
    """P(mean 1 < mean 2) by the bootstrap is Student's t of their difference ÷ (s · √(2/n)), n − 1 degrees."""
    losses = np.array([[1.00, 1.02, 1.05, 0.99], [1.03, 1.01, 1.06, 1.04]])
    compared = compare(trials_table(with_losses(losses)), "val_loss")
    difference = losses[1] - losses[0]
    t = difference.mean() / (difference.std(ddof=1) / 2)
    # 20,000 draws: a chance is known to 0.0035; four of them.
    assert compared["chance"][0] == pytest.approx(student.cdf(t, 3), abs=0.014)


def test_one_seed_leaves_all_tied_and_no_chance_known() -> None:
    records = with_losses(np.linspace(1, 2, 6)[:, None])
    compared = compare(trials_table(records), "val_loss")
    assert compared["tied"].all()
    assert compared["chance"].isna().all()
    table = candidates_table(records, 2.0, "val_loss")
    assert table["tied"].all()


@pytest.mark.parametrize("missing", [False, True])
def test_without_noise_the_best_share_the_chance(missing: bool) -> None:
    """Seeds move all candidates alike; a missing run leaves rounding errors, which must not decide."""
    losses = np.array([0.125, 0.0, 0.0, 0.1, 0.0])[:, None] + np.array([0.9, 0.95])
    if missing:
        losses[1, 0] = np.nan
    compared = compare(trials_table(with_losses(losses)), "val_loss")
    assert compared["chance"].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 0, 1 / 3])
    assert compared["tied"].tolist() == [False, True, True, False, True]


def test_a_candidate_with_fewer_seeds_is_harder_to_rule_out() -> None:
    losses = 1 + 0.01 * np.random.default_rng(5).standard_normal((6, 6))
    losses[:5] -= losses[:5].mean(axis=1, keepdims=True) - 1  # means exactly 1
    losses[5] -= losses[5].mean() - 1.0145
    whole = compare(trials_table(with_losses(losses)), "val_loss")
    assert not whole["tied"][5]
    fewer = losses.copy()
    fewer[5, 2:] = np.nan
    fewer[5, :2] += 1.0145 - np.nanmean(fewer[5])
    assert compare(trials_table(with_losses(fewer)), "val_loss")["tied"][5]


def test_the_candidates_table_has_them() -> None:
    losses = 1 + 0.01 * np.random.default_rng(2).standard_normal((10, 3))
    records = with_losses(losses)
    table, compared = candidates_table(records, 2.0, "val_loss"), compare(trials_table(records), "val_loss")
    for row in table.to_dict("records"):
        assert (row["chance"], row["tied"]) == tuple(compared.loc[row["candidate"]])
