"""Signal against planted components of variance and known F values; the choice of a rule."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import pytest
import statsmodels.api as sm

from scalesearch.analysis.choice import choose, rule_of
from scalesearch.analysis.comparison import finished_runs, two_way
from scalesearch.analysis.optimum import optimum
from scalesearch.analysis.signal import Signal, signal_of
from scalesearch.analysis.surfaces.base import InsufficientTrials
from scalesearch.analysis.surfaces.polynomial import fit_surface
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.records import Failure, TrialRecord
from scalesearch.scaling.rule import ScalingRule
from scalesearch.study.load import parse_study
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, planted_candidates, planted_records, small_baseline

FLAT = PlantedSurface(linear=(0.5, 0.5, 0.5), interaction=(0.0, 0.0, 0.0), macs_effect=0.0)


def study(metric: str = "val_loss") -> Study:
    own = small_baseline()
    return parse_study(
        {
            "name": "planted",
            "metric": metric,
            "seeds": 3,
            "baseline": {"name": own.name, **own.spec.to_json()},
            "rounding": {"width_divisor": own.rounding.width_divisor},
            "data": {"source": "mnist-sample", "validation": 1000},
            "training": {"epochs": 3, "batch_size": 100, "learning_rate": 0.01},
        },
        "planted.toml",
    )


def with_losses(losses: np.ndarray) -> list[TrialRecord]:
    """Planted candidates whose runs have these losses (candidates, seeds); NaN for a run that is not there."""
    found = []
    for record, row in zip(planted_records(FLAT), losses.tolist(), strict=False):
        template = record.seeds[0]
        seeds = tuple(
            dataclasses.replace(template, seed=number, val_loss_curve=(value,))
            for number, value in enumerate(row)
            if not np.isnan(value)
        )
        found.append(dataclasses.replace(record, seeds=seeds))
    return found


def judged(records: Sequence[TrialRecord]) -> Signal:
    return choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss").signal


def test_a_balanced_table_gives_the_f_of_the_textbook():
    """Candidate effects a, seed effects s, and an error that is orthogonal to both: all sums of squares by hand."""
    a = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    s = np.array([0.3, 0.0, -0.1, -0.2])
    e = 0.05 * np.outer([1, -1, 0, 1, -1], [1, -1, 1, -1])  # rows and columns sum to 0
    found = judged(with_losses(1 + a[:, None] + s[None, :] + e))
    mean_square, error = 4 * (a**2).sum() / 4, (e**2).sum() / (4 * 3)
    assert found.f == pytest.approx(mean_square / error, rel=1e-10)
    assert found.spread == pytest.approx(a.std(ddof=1), rel=1e-10)
    assert found.seed_sd == pytest.approx(np.sqrt(error), rel=1e-10)
    assert found.noise == pytest.approx(np.sqrt(error / 4), rel=1e-10)
    own = (mean_square - error) / 4
    assert found.intraclass == pytest.approx(own / (own + error), rel=1e-10)
    assert (found.candidates, found.seeds) == (5, 4)


def test_an_unbalanced_table_agrees_with_least_squares_of_all_dummies():
    generator = np.random.default_rng(5)
    losses = 1 + 0.1 * generator.standard_normal((9, 1)) + 0.3 * generator.standard_normal((1, 4))
    losses = losses + 0.05 * generator.standard_normal((9, 4))
    losses[0, 3] = losses[2, 0] = losses[2, 1] = losses[7, 2] = np.nan
    candidate, seed = np.nonzero(~np.isnan(losses))
    y = losses[candidate, seed]
    seeds = np.eye(4)[seed]
    full = sm.OLS(y, np.column_stack([seeds, np.eye(9)[candidate][:, 1:]])).fit()
    f, p, _ = full.compare_f_test(sm.OLS(y, seeds).fit())
    found = judged(with_losses(losses))
    assert found.f == pytest.approx(f, rel=1e-9)
    assert found.p == pytest.approx(p, rel=1e-6)
    assert found.seed_sd == pytest.approx(np.sqrt(full.scale), rel=1e-9)
    effects = np.array([0, *full.params[4:]])
    assert found.spread == pytest.approx(effects.std(ddof=1), rel=1e-9)


def test_planted_components_of_variance_are_found():
    """Fifteen candidates by 40 seeds: 546 degrees of freedom, so a deviation is known to 3 %; four of them."""
    planted = PlantedSurface()
    found = judged(planted_records(planted, seeds=tuple(range(40)), seed_sd=0.05, noise_sd=0.01))
    truth = [planted.at(r.candidate.shares, r.candidate.macs_ratio) for r in planted_records(planted, seeds=(0,))]
    assert found.seed_sd == pytest.approx(0.01, rel=0.12)
    assert found.noise == pytest.approx(found.seed_sd / np.sqrt(40), rel=1e-12)
    # Each mean is off by 0.0016, so the spread of 15, about 0.044, by 0.0016 ÷ √15 = 0.0004 or 1 %; four of them.
    assert found.spread == pytest.approx(np.std(truth, ddof=1), rel=0.04)
    assert found.resolved
    assert found.verdict.startswith("Resolved: candidates spread over 0.04")


def test_a_shared_seed_effect_is_no_noise():
    quiet, loud = (judged(planted_records(PlantedSurface(), seed_sd=sd)) for sd in (0.0, 10.0))
    assert loud.f == pytest.approx(quiet.f, rel=1e-6)
    assert loud.seed_sd == pytest.approx(quiet.seed_sd, rel=1e-6)


def test_without_a_signal_it_says_so_and_errs_as_often_as_it_states():
    """100 studies of pure noise: p < 0.05 in 5 of them; 12 or fewer with a probability of 99.8 %."""
    found = [judged(planted_records(FLAT, noise_sd=0.02, key=key)) for key in range(100)]
    differ = [one for one in found if one.p is not None and one.p < 0.05]
    assert 1 <= len(differ) <= 12
    assert sum(one.resolved for one in found) <= 3
    quiet = next(one for one in found if one.p is not None and one.p > 0.2)
    assert not quiet.resolved
    assert quiet.verdict.startswith("Not resolved: candidates spread over")
    assert quiet.verdict.endswith("run more seeds or a longer schedule.")


def test_differences_that_the_shares_do_not_explain_are_not_resolved():
    """Candidates that truly differ, at random over the triangle."""
    own = np.random.default_rng(3).standard_normal((15, 1))
    noise = 0.01 * np.random.default_rng(4).standard_normal((15, 3))
    found = judged(with_losses(1 + 0.1 * own + noise))
    assert found.p is not None
    assert found.p < 1e-6
    assert found.surface_p is not None
    assert found.surface_p > 0.05
    assert not found.resolved
    assert "the split of the budget does not explain it" in found.verdict


def test_one_seed_cannot_be_judged():
    found = judged(planted_records(PlantedSurface(), seeds=(0,)))
    assert (found.f, found.p, found.noise, found.seed_sd, found.intraclass) == (None,) * 5
    assert not found.resolved
    assert "with one seed each this cannot be told from noise" in found.verdict


def test_fewer_than_two_candidates_cannot_be_judged():
    found = judged(planted_records(PlantedSurface())[:1])
    assert found.spread is None
    assert found.verdict == "Not resolved: fewer than two candidates finished."


def test_four_candidates_are_too_few_for_a_surface():
    found = judged(planted_records(PlantedSurface())[:4])
    assert found.p is not None
    assert found.surface_p is None
    assert not found.resolved
    assert "but no surface can be fitted" in found.verdict


def test_a_signal_without_any_noise_is_still_json():
    found = judged(planted_records(PlantedSurface(), noise_sd=0))
    assert (found.f, found.p, found.resolved) == (None, 0.0, True)
    json.dumps(dataclasses.asdict(found), allow_nan=False)
    same = judged(planted_records(FLAT, noise_sd=0))
    assert not same.resolved


def test_partial_and_superseded_runs_do_not_count():
    records = list(planted_records(PlantedSurface()))
    poisoned = with_losses(np.full((1, 3), 100.0))[0]
    stale = dataclasses.replace(poisoned, failure=Failure("interrupted", "stopped"))
    expected = judged(records)
    assert judged([stale, *records]) == expected
    assert judged([poisoned, *records]) == expected


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy"])
def test_the_rule_is_the_optimum_of_the_surface(metric: str):
    planted = PlantedSurface()
    records = planted_records(planted, seed_sd=0, noise_sd=1e-5)
    trials, candidates = trials_table(records), candidates_table(records, 2.0, metric)
    rule = rule_of(choose(trials, candidates, 2.0, metric), study(metric), {"device": "cpu"})
    # The planted optimum by the stationary equations: see the surface's own tests.
    system = np.array([[0, -0.35, -0.35, 1], [-0.35, 0, -0.40, 1], [-0.35, -0.40, 0, 1], [1, 1, 1, 0]])
    truth = np.linalg.solve(system, [-0.56, -0.50, -0.53, 1])[:3]
    # Accuracy is exp(−loss), which a quadratic follows less exactly: a hundredth of a share.
    assert rule.shares.values == pytest.approx(truth, abs=1e-3 if metric == "val_loss" else 0.02)
    assert abs(rule.alpha * rule.beta**2 * rule.gamma**2 - 2) < 1e-9
    assert rule.resolved
    assert rule.metric == metric
    assert rule.baseline.spec == small_baseline().spec
    assert rule.seeds == 3
    assert rule.training["epochs"] == 3
    assert rule.data["source"] == "mnist-sample"
    assert rule.provenance["device"] == "cpu"
    assert rule.provenance["basis"].startswith("The optimum (interior) of a Scheffé quadratic surface over 15")
    assert ScalingRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(("metric", "best"), [("val_loss", "idxmin"), ("val_accuracy", "idxmax")])
def test_without_a_surface_the_best_candidates_own_shares_are_chosen(metric: str, best: str):
    records = planted_records(PlantedSurface())[6:9]
    trials, candidates = trials_table(records), candidates_table(records, 2.0, metric)
    choice = choose(trials, candidates, 2.0, metric)
    row = candidates.loc[getattr(candidates[metric], best)()]
    assert choice.shares.values == (row["depth_share"], row["width_share"], row["resolution_share"])
    assert choice.surface is None
    assert choice.optimum is None
    assert choice.basis.startswith("The shares of the best of 3 candidates, because no surface can be fitted")
    assert not choice.signal.resolved


@pytest.mark.parametrize(("part", "resolved"), [(0.0, True), (0.5, True), (0.51, False)])
def test_a_choice_that_may_lose_more_than_half_of_the_range_is_not_resolved(part: float, resolved: bool):
    records = planted_records(PlantedSurface())
    choice = choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")
    assert choice.region is not None
    assert choice.signal.regret == choice.region.regret < 0.5 * choice.region.range == 0.5 * choice.signal.range
    region = dataclasses.replace(choice.region, regret=part * choice.region.range)
    model = two_way(finished_runs(trials_table(records), "val_loss"), "val_loss")
    signal = signal_of(model, 3, "val_loss", choice.surface, region)
    assert signal.resolved is resolved
    if resolved:
        assert f"the choice loses at most {region.regret:.3g}, {part:.0%} of what lies" in signal.verdict
    else:
        assert f"another split may still be better by {region.regret:.3g}, 51% of what lies" in signal.verdict


def test_a_surface_that_is_best_where_candidates_were_pruned_is_not_believed():
    records = list(planted_records(PlantedSurface()))
    whole = choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")
    distances = [np.linalg.norm(np.subtract(r.candidate.shares.values, whole.shares.values)) for r in records]
    near, far = int(np.argmin(distances)), int(np.argmax(distances))
    for place, believed in ((far, True), (near, False)):
        cut = list(records)
        cut[place] = dataclasses.replace(cut[place], failure=Failure("pruned", "after 1 of 9 epochs"))
        choice = choose(trials_table(cut), candidates_table(cut, 2.0, "val_loss"), 2.0, "val_loss")
        assert (choice.surface is not None) is choice.signal.resolved is believed
        assert ("next to a pruned candidate" in choice.basis) is not believed
    done = [record for record in cut if record.failure is None]
    assert choice.shares == min(done, key=lambda record: record.mean("val_loss")).candidate.shares


def test_two_corners_that_are_equally_good_are_both_told():
    surface = PlantedSurface(linear=(0.50, 0.50, 0.56), interaction=(0.05, 0.02, 0.02))
    records = planted_records(surface, noise_sd=0.002)
    choice = choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")
    assert choice.signal.resolved
    assert choice.signal.verdict.endswith("(95%). Which of 2 places of the triangle is best is open.")
    assert "in 2 places: best at " in choice.certainty
    for corner in ("depth 1.00, width 0.00, resolution 0.00", "depth 0.00, width 1.00, resolution 0.00"):
        assert corner in choice.certainty
    document = rule_of(choice, study(), {}).to_json()["intervals"]
    assert sorted(document["places"]) == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert 0 < document["regret"] < 0.5 * document["range"]


def test_a_surface_that_explains_nothing_chooses_nothing():
    """Pure noise: an adjusted R² of 0 or less, in about half of such studies."""
    for key in range(20):
        records = planted_records(FLAT, noise_sd=0.02, key=key)
        table = candidates_table(records, 2.0, "val_loss")
        choice = choose(trials_table(records), table, 2.0, "val_loss")
        assert choice.surface is not None
        if choice.surface.adjusted_r2 <= 0:
            break
    assert choice.surface.adjusted_r2 <= 0
    best = table.iloc[0]
    assert choice.shares.values == (best["depth_share"], best["width_share"], best["resolution_share"])
    assert "explains nothing (adjusted R² -0." in choice.basis
    assert not choice.signal.resolved


def test_a_surface_that_the_candidates_leave_is_told():
    own = 0.05 * np.random.default_rng(1).standard_normal(15)
    planted = planted_records(PlantedSurface(linear=(0.9, 0.5, 0.5)), noise_sd=0.001)
    losses = np.array([[seed.val_loss for seed in record.seeds] for record in planted]) + own[:, None]
    records = with_losses(losses)
    choice = choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")
    assert choice.signal.lack_of_fit_p is not None
    assert choice.signal.lack_of_fit_p < 1e-6
    assert "Candidates deviate from it by more than the seeds' noise" in choice.basis


def test_the_rule_says_how_sure_it_is():
    records = planted_records(PlantedSurface())
    table = candidates_table(records, 2.0, "val_loss")
    choice = choose(trials_table(records), table, 2.0, "val_loss")
    assert choice.region is not None
    document = rule_of(choice, study(), {}).to_json()
    assert document["intervals"]["level"] == 0.95
    assert document["intervals"]["region"] == choice.region.part == choice.signal.region
    for name in ("alpha", "beta", "gamma"):
        low, high = document["intervals"][name]
        assert low <= document[name] <= high
    assert [one["chance"] for one in document["tied"]] == table.loc[table["tied"], "chance"].tolist()
    assert document["tied"][0]["resolution"] == table["resolution"][0]
    assert f"{len(document['tied'])} of 15 candidates cannot be told from the best" in choice.certainty
    assert ScalingRule.from_json(json.loads(json.dumps(document))).to_json() == document


def test_without_a_finished_candidate_there_is_no_rule():
    records = planted_records(PlantedSurface(), fail=lambda candidate: Failure("error", "broken"))
    with pytest.raises(InsufficientTrials, match="at least one finished candidate, but none of 15 finished"):
        choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")


def test_a_choice_far_from_all_trained_candidates_is_called_an_extrapolation() -> None:
    # Falls towards all resolution, steeply: the optimum is that corner whether or not it was tried.
    steep = PlantedSurface(linear=(0.9, 0.9, 0.1), interaction=(0.0, 0.0, 0.0))
    everything = planted_candidates()
    for candidates, far in ((everything, False), (tuple(c for c in everything if c.shares.resolution < 0.6), True)):
        records = planted_records(steep, candidates=candidates)
        table = candidates_table(records, 2.0, "val_loss")
        chosen = choose(trials_table(records), table, 2.0, "val_loss")
        assert chosen.shares.resolution > 0.95
        assert ("extrapolation" in chosen.basis) is far


def test_a_candidate_that_decides_the_choice_is_named() -> None:
    """The corner of all width, 80 standard deviations of a mean worse than it should be, bends the surface."""
    planted = planted_records(PlantedSurface(), noise_sd=0.002)
    losses = np.array([[seed.val_loss for seed in record.seeds] for record in planted])
    number = next(place for place, record in enumerate(planted) if record.candidate.shares.width > 0.99)
    told = []
    for worse in (0.0, 0.1):
        losses[number] += worse
        records = with_losses(losses)
        table = candidates_table(records, 2.0, "val_loss")
        told.append(choose(trials_table(records), table, 2.0, "val_loss").basis)
    rest = fit_surface(table[table["candidate"].ne(number)], 2.0, "val_loss")
    there = "depth {:.2f}, width {:.2f}, resolution {:.2f}".format(*optimum(rest, maximise=False).shares.values)
    assert "decides the choice" not in told[0]
    assert (
        f" Candidate {number} (depth 0.00, width 1.00, resolution 0.00) decides the choice: without it the optimum"
        f" would be {there}, outside the confidence region."
    ) in told[1]


def test_a_linear_surface_chooses_nothing_and_resolves_nothing() -> None:
    """Its optimum is a corner, whatever the trials say: the best candidate is taken, and no interval is claimed."""
    records = planted_records(PlantedSurface(linear=(0.9, 0.5, 0.5)), noise_sd=0.0005)[:7]
    trials, candidates = trials_table(records), candidates_table(records, 2.0, "val_loss")
    assert fit_surface(candidates, 2.0, "val_loss").model == "Scheffé linear"
    found = choose(trials, candidates, 2.0, "val_loss")
    best = candidates.loc[candidates["val_loss"].idxmin()]
    assert found.shares.values == tuple(best[f"{name}_share"] for name in ("depth", "width", "resolution"))
    assert (found.signal.p or 1) < 1e-6
    assert not found.signal.resolved
    assert found.region is None
    assert "needs 8 candidates of distinct shares, but 7 are there" in found.basis
    assert "best in a corner, whatever the trials say" in found.signal.verdict
