"""The choice of a rule: the surface's optimum or the best candidate, on what grounds, and how certain."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from scalesearch.analysis.choice import Choice, choose, rule_of
from scalesearch.analysis.optimum import optimum
from scalesearch.analysis.surfaces.base import InsufficientTrials
from scalesearch.analysis.surfaces.polynomial import fit_polynomial
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.export.rule_json import parse_rule
from scalesearch.results.records import Failure, TrialRecord
from scalesearch.study.sections import Study
from tests.planted import (
    PlantedSurface,
    planted_candidates,
    planted_records,
    planted_study,
    small_baseline,
    with_losses,
)

FLAT = PlantedSurface(linear=(0.5, 0.5, 0.5), interaction=(0.0, 0.0, 0.0), macs_effect=0.0)


def study(metric: str = "val_loss") -> Study:
    return planted_study(metric=metric, seeds=3)


def choice_of(records: Sequence[TrialRecord], metric: str = "val_loss") -> Choice:
    return choose(trials_table(records), candidates_table(records, 2.0, metric), 2.0, metric)


def losses_of(records: Sequence[TrialRecord]) -> np.ndarray:
    """Losses (candidates, seeds)."""
    return np.array([[seed.val_loss for seed in record.seeds] for record in records])


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy"])
def test_the_rule_is_the_optimum_of_the_surface(metric: str) -> None:
    records = planted_records(PlantedSurface(), seed_sd=0, noise_sd=1e-5)
    rule = rule_of(choice_of(records, metric), study(metric), {"device": "cpu"})
    # The planted optimum by the stationary equations: see the tests of the surface.
    system = np.array([[0, -0.35, -0.35, 1], [-0.35, 0, -0.40, 1], [-0.35, -0.40, 0, 1], [1, 1, 1, 0]])
    truth = np.linalg.solve(system, [-0.56, -0.50, -0.53, 1])[:3]
    # Accuracy is exp(−loss), which no quadratic follows exactly: a hundredth of a share.
    assert rule.shares.values == pytest.approx(truth, abs=1e-3 if metric == "val_loss" else 0.02)
    assert abs(rule.alpha * rule.beta**2 * rule.gamma**2 - 2) < 1e-9
    assert rule.resolved
    assert rule.metric == metric
    assert rule.baseline.spec == small_baseline().spec
    assert rule.seeds == 3
    assert rule.training["epochs"] == 3
    assert rule.data["source"] == "mnist-sample"
    assert rule.provenance["device"] == "cpu"
    surface = "Scheffé quadratic" if metric == "val_loss" else "Gaussian process"
    assert rule.provenance["basis"].startswith(f"The optimum (interior) of a {surface} surface fitted to 15")
    assert parse_rule(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(("metric", "best"), [("val_loss", "idxmin"), ("val_accuracy", "idxmax")])
def test_without_a_surface_the_shares_of_the_best_candidate_are_chosen(metric: str, best: str) -> None:
    records = planted_records(PlantedSurface())[6:9]
    candidates = candidates_table(records, 2.0, metric)
    choice = choice_of(records, metric)
    row = candidates.loc[getattr(candidates[metric], best)()]
    assert choice.shares.values == (row["depth_share"], row["width_share"], row["resolution_share"])
    assert choice.surface is None
    assert choice.region is None
    assert choice.basis.startswith("The shares of the best of 3 candidates, because no surface can be fitted (")
    assert not choice.signal.resolved


def test_a_surface_whose_optimum_is_next_to_a_pruned_candidate_is_not_used() -> None:
    records = list(planted_records(PlantedSurface()))
    peak = choice_of(records).shares.values
    distances = [np.linalg.norm(np.subtract(record.candidate.shares.values, peak)) for record in records]
    nearest, farthest = int(np.argmin(distances)), int(np.argmax(distances))
    for pruned, used in ((farthest, True), (nearest, False)):
        remaining = list(records)
        remaining[pruned] = replace(remaining[pruned], failure=Failure("pruned", "after 1 of 9 epochs"))
        choice = choice_of(remaining)
        assert (choice.surface is not None) is choice.signal.resolved is used
        assert ("next to a pruned candidate" in choice.basis) is not used
    finished = [record for record in remaining if record.failure is None]
    assert choice.shares == min(finished, key=lambda record: record.mean("val_loss")).candidate.shares


def test_two_corners_that_are_equally_good_are_both_named() -> None:
    surface = PlantedSurface(linear=(0.50, 0.50, 0.56), interaction=(0.05, 0.02, 0.02))
    choice = choice_of(planted_records(surface, noise_sd=0.002))
    assert choice.signal.resolved
    assert "(less than 0.1 % of the triangle, in 2 separate pieces); moving to it" in choice.signal.verdict
    assert "in 2 separate pieces with their best points at " in choice.certainty
    for corner in ("depth 1.00, width 0.00, resolution 0.00", "depth 0.00, width 1.00, resolution 0.00"):
        assert corner in choice.certainty
    document = rule_of(choice, study(), {}).to_json()["intervals"]
    assert sorted(document["places"]) == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert 0 < document["regret"] < 0.5 * document["range"]


def test_a_surface_that_explains_nothing_chooses_nothing() -> None:
    """Pure noise: an adjusted R² of 0 or less, in about half of such studies."""
    for key in range(20):
        records = planted_records(FLAT, noise_sd=0.02, key=key)
        choice = choice_of(records)
        assert choice.surface is not None
        if choice.surface.adjusted_r2 <= 0:
            break
    assert choice.surface.adjusted_r2 <= 0
    best = candidates_table(records, 2.0, "val_loss").iloc[0]
    assert choice.shares.values == (best["depth_share"], best["width_share"], best["resolution_share"])
    depth, width, resolution = choice.shares.values
    assert repr(choice) == f"<Choice: depth {depth:.2f}, width {width:.2f}, resolution {resolution:.2f}>"
    assert "explains nothing (adjusted R² -0." in choice.basis
    assert not choice.signal.resolved


def test_a_lack_of_fit_is_reported() -> None:
    deviations = 0.05 * np.random.default_rng(1).standard_normal(15)
    planted = planted_records(PlantedSurface(linear=(0.9, 0.5, 0.5)), noise_sd=0.001)
    choice = choice_of(with_losses(losses_of(planted) + deviations[:, None]))
    assert choice.signal.lack_of_fit_p is not None
    assert choice.signal.lack_of_fit_p < 1e-6
    assert "Candidates deviate from the surface by more than seed noise" in choice.basis


def test_the_rule_says_how_certain_it_is() -> None:
    records = planted_records(PlantedSurface())
    table, choice = candidates_table(records, 2.0, "val_loss"), choice_of(records)
    assert choice.region is not None
    document = rule_of(choice, study(), {}).to_json()
    assert document["intervals"]["level"] == 0.95
    assert document["intervals"]["region"] == choice.region.part == choice.signal.region
    for name in ("alpha", "beta", "gamma"):
        low, high = document["intervals"][name]
        assert low <= document[name] <= high
    assert [tied["chance"] for tied in document["tied"]] == table.loc[table["tied"], "chance"].tolist()
    assert document["tied"][0]["resolution"] == table["resolution"][0]
    assert choice.certainty.startswith("If the surface is right, the 95 % confidence intervals are α ")
    assert choice.certainty.endswith(f"By the seeds alone, {len(document['tied'])} of 15 candidates may be the best.")
    assert parse_rule(json.loads(json.dumps(document))).to_json() == document


def test_without_a_finished_candidate_there_is_no_rule() -> None:
    records = planted_records(PlantedSurface(), fail=lambda candidate: Failure("error", "broken"))
    with pytest.raises(InsufficientTrials, match="at least one finished candidate, but none of 15 finished"):
        choice_of(records)


def test_a_choice_far_from_all_trained_candidates_is_called_an_extrapolation() -> None:
    # Falls steeply towards all resolution: the optimum is that corner whether or not it was tried.
    steep = PlantedSurface(linear=(0.9, 0.9, 0.1), interaction=(0.0, 0.0, 0.0))
    everything = planted_candidates()
    for candidates, far in ((everything, False), (tuple(c for c in everything if c.shares.resolution < 0.6), True)):
        choice = choice_of(planted_records(steep, candidates=candidates))
        assert choice.shares.resolution > 0.95
        assert ("This is an extrapolation" in choice.basis) is far


def test_a_candidate_on_which_the_choice_depends_is_named() -> None:
    """The corner of all width, 80 standard deviations of a mean worse than it should be, bends the surface."""
    planted = planted_records(PlantedSurface(), noise_sd=0.002)
    losses = losses_of(planted)
    number = next(place for place, record in enumerate(planted) if record.candidate.shares.width > 0.99)
    assert "depends on" not in choice_of(with_losses(losses)).basis
    losses[number] += 0.1
    records = with_losses(losses)
    table = candidates_table(records, 2.0, "val_loss")
    rest = fit_polynomial(table[table["candidate"].ne(number)], 2.0, "val_loss")
    there = "depth {:.2f}, width {:.2f}, resolution {:.2f}".format(*optimum(rest, maximise=False).values)
    assert (
        f" The choice depends on candidate {number} (depth 0.00, width 1.00, resolution 0.00): without it the optimum"
        f" would be at {there}, outside the confidence region."
    ) in choice_of(records).basis


def test_a_linear_surface_chooses_nothing_and_resolves_nothing() -> None:
    """Its optimum is always a corner: the best candidate is taken, without intervals."""
    records = planted_records(PlantedSurface(linear=(0.9, 0.5, 0.5)), noise_sd=0.0005)[:7]
    candidates, choice = candidates_table(records, 2.0, "val_loss"), choice_of(records)
    assert fit_polynomial(candidates, 2.0, "val_loss").model == "Scheffé linear"
    best = candidates.loc[candidates["val_loss"].idxmin()]
    assert choice.shares.values == tuple(best[f"{name}_share"] for name in ("depth", "width", "resolution"))
    assert (choice.signal.p or 1) < 1e-6
    assert not choice.signal.resolved
    assert choice.region is None
    assert "needs 8 candidates with distinct shares, but got 7" in choice.basis
    assert "a linear surface always has its optimum in a corner" in choice.signal.verdict


def test_equal_candidates_share_the_chance_and_none_is_preferred() -> None:
    """All of them right on all images, so that there is no noise either."""
    records = [
        replace(record, seeds=tuple(replace(seed, val_accuracy_curve=(1.0,)) for seed in record.seeds))
        for record in planted_records(PlantedSurface())
    ]
    choice = choice_of(records, "val_accuracy")
    assert [tied["chance"] for tied in choice.tied] == pytest.approx([1 / 15] * 15)
    assert not choice.signal.resolved
    assert choice.certainty.endswith("By the seeds alone, 15 of 15 candidates may be the best.")
