"""The signal, against planted variance components and F values computed by hand."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import pytest
import statsmodels.api as sm

from scalesearch.analysis.choice import choose
from scalesearch.analysis.comparison import finished_runs, two_way
from scalesearch.analysis.signal import Signal, signal_of
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.records import Failure, TrialRecord
from tests.planted import PlantedSurface, planted_records, with_losses

FLAT = PlantedSurface(linear=(0.5, 0.5, 0.5), interaction=(0.0, 0.0, 0.0), macs_effect=0.0)


def signal(records: Sequence[TrialRecord]) -> Signal:
    return choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss").signal


def test_a_balanced_table_gives_the_f_of_the_textbook() -> None:
    """Candidate effects a, seed effects s, and an error orthogonal to both: all sums of squares by hand."""
    a = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    s = np.array([0.3, 0.0, -0.1, -0.2])
    e = 0.05 * np.outer([1, -1, 0, 1, -1], [1, -1, 1, -1])  # rows and columns sum to 0
    result = signal(with_losses(1 + a[:, None] + s[None, :] + e))
    mean_square, error = 4 * (a**2).sum() / 4, (e**2).sum() / (4 * 3)
    assert result.f == pytest.approx(mean_square / error, rel=1e-10)
    assert result.spread == pytest.approx(a.std(ddof=1), rel=1e-10)
    assert result.seed_sd == pytest.approx(np.sqrt(error), rel=1e-10)
    assert result.noise == pytest.approx(np.sqrt(error / 4), rel=1e-10)
    between = (mean_square - error) / 4
    assert result.intraclass == pytest.approx(between / (between + error), rel=1e-10)
    assert (result.candidates, result.seeds) == (5, 4)


def test_an_unbalanced_table_agrees_with_least_squares_of_all_dummies() -> None:
    generator = np.random.default_rng(5)
    losses = 1 + 0.1 * generator.standard_normal((9, 1)) + 0.3 * generator.standard_normal((1, 4))
    losses = losses + 0.05 * generator.standard_normal((9, 4))
    losses[0, 3] = losses[2, 0] = losses[2, 1] = losses[7, 2] = np.nan
    candidate, seed = np.nonzero(~np.isnan(losses))
    y = losses[candidate, seed]
    seeds = np.eye(4)[seed]
    full = sm.OLS(y, np.column_stack([seeds, np.eye(9)[candidate][:, 1:]])).fit()
    f, p, _ = full.compare_f_test(sm.OLS(y, seeds).fit())
    result = signal(with_losses(losses))
    assert result.f == pytest.approx(f, rel=1e-9)
    assert result.p == pytest.approx(p, rel=1e-6)
    assert result.seed_sd == pytest.approx(np.sqrt(full.scale), rel=1e-9)
    effects = np.array([0, *full.params[4:]])
    assert result.spread == pytest.approx(effects.std(ddof=1), rel=1e-9)


def test_planted_variance_components_are_recovered() -> None:
    """Fifteen candidates by 40 seeds: 546 degrees of freedom, so a deviation is known to 3 %; four of them."""
    planted = PlantedSurface()
    result = signal(planted_records(planted, seeds=tuple(range(40)), seed_sd=0.05, noise_sd=0.01))
    truth = [planted.at(r.candidate.shares, r.candidate.cost_ratio) for r in planted_records(planted, seeds=(0,))]
    assert result.seed_sd is not None
    assert result.seed_sd == pytest.approx(0.01, rel=0.12)
    assert result.noise == pytest.approx(result.seed_sd / np.sqrt(40), rel=1e-12)
    # Each mean is off by 0.0016, so the spread of 15, about 0.044, by 0.0016 ÷ √15 = 0.0004 or 1 %; four of them.
    assert result.spread == pytest.approx(np.std(truth, ddof=1), rel=0.04)
    assert result.resolved
    assert result.verdict.startswith("Resolved: the true optimum lies in the confidence region (")
    assert "validation loss has a standard deviation of 0.04" in result.verdict


def test_a_shared_seed_effect_is_no_noise() -> None:
    quiet, loud = (signal(planted_records(PlantedSurface(), seed_sd=sd)) for sd in (0.0, 10.0))
    assert loud.f == pytest.approx(quiet.f, rel=1e-6)
    assert loud.seed_sd == pytest.approx(quiet.seed_sd, rel=1e-6)


@pytest.mark.long
def test_pure_noise_is_significant_as_often_as_stated() -> None:
    """100 studies of pure noise: p < 0.05 in 5 of them; 12 or fewer with a probability of 99.8 %."""
    studies = [planted_records(FLAT, noise_sd=0.02, key=key) for key in range(100)]
    p_values = [two_way(finished_runs(trials_table(study), "val_loss"), "val_loss").p for study in studies]
    assert 1 <= sum(p is not None and p < 0.05 for p in p_values) <= 12
    results = [signal(study) for study in studies[:30]]
    assert [result.p for result in results] == p_values[:30]
    assert sum(result.resolved for result in results) <= 1
    quiet = next(result for result in results if result.p is not None and result.p > 0.2)
    assert not quiet.resolved
    assert quiet.verdict.startswith("Not resolved: candidates do not differ by more than seed noise.")
    assert quiet.verdict.endswith("Run more seeds or a longer schedule.")


def test_differences_that_the_shares_do_not_explain_are_not_resolved() -> None:
    """Candidates that truly differ, at random over the triangle."""
    effects = np.random.default_rng(3).standard_normal((15, 1))
    noise = 0.01 * np.random.default_rng(4).standard_normal((15, 3))
    result = signal(with_losses(1 + 0.1 * effects + noise))
    assert result.p is not None
    assert result.p < 1e-6
    assert result.surface_p is not None
    assert result.surface_p > 0.05
    assert not result.resolved
    assert "the shares do not explain the differences" in result.verdict


def test_one_seed_cannot_be_judged() -> None:
    result = signal(planted_records(PlantedSurface(), seeds=(0,)))
    assert (result.f, result.p, result.noise, result.seed_sd, result.intraclass) == (None,) * 5
    assert not result.resolved
    assert "one seed per candidate cannot show the seed noise" in result.verdict


def test_fewer_than_two_candidates_cannot_be_judged() -> None:
    result = signal(planted_records(PlantedSurface())[:1])
    assert result.spread is None
    assert result.verdict == "Not resolved: fewer than two candidates finished."


def test_four_candidates_are_too_few_for_a_surface() -> None:
    result = signal(planted_records(PlantedSurface())[:4])
    assert result.p is not None
    assert result.surface_p is None
    assert not result.resolved
    assert result.verdict.startswith("Not resolved: no surface can be fitted (")


def test_a_signal_without_any_noise_is_still_json() -> None:
    result = signal(planted_records(PlantedSurface(), noise_sd=0))
    assert (result.f, result.p, result.resolved) == (None, 0.0, True)
    json.dumps(dataclasses.asdict(result), allow_nan=False)
    assert not signal(planted_records(FLAT, noise_sd=0)).resolved


def test_partial_and_superseded_runs_do_not_count() -> None:
    records = list(planted_records(PlantedSurface()))
    wrong = with_losses(np.full((1, 3), 100.0))[0]
    interrupted = dataclasses.replace(wrong, failure=Failure("interrupted", "stopped"))
    expected = signal(records)
    assert signal([interrupted, *records]) == expected
    assert signal([wrong, *records]) == expected


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        (0.0, "Resolved: the true optimum lies in"),
        (0.25, "Resolved: the true optimum lies in"),
        (0.26, "Resolved, but narrowly: the true optimum lies in"),
        (0.5, "Resolved, but narrowly: the true optimum lies in"),
        (0.51, "Not resolved: another split could gain up to"),
    ],
)
def test_a_choice_is_resolved_if_another_split_could_gain_half_of_the_range_or_less(part: float, verdict: str) -> None:
    records = planted_records(PlantedSurface())
    choice = choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")
    assert choice.region is not None
    assert choice.signal.regret == choice.region.regret < 0.5 * choice.region.range == 0.5 * choice.signal.range
    region = dataclasses.replace(choice.region, regret=part * choice.region.range)
    model = two_way(finished_runs(trials_table(records), "val_loss"), "val_loss")
    result = signal_of(model, "val_loss", choice.surface, region)
    assert result.resolved is (part <= 0.5)
    assert result.verdict.startswith(verdict)
    assert f" {region.regret:.3g}, {100 * part:.0f} % of the best-to-worst range (95 % confidence)." in result.verdict
