"""Candidates against guessing and against the baseline: what is said first, and when there is no rule."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from scalesearch.analysis.choice import choose
from scalesearch.analysis.comparison import finished_runs, is_beaten, two_way
from scalesearch.analysis.standing import Standing, standing_of
from scalesearch.analysis.surfaces.base import InsufficientTrials
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.records import Failure, TrialRecord
from tests.planted import PlantedSurface, planted_records, planted_reference, with_losses

CHANCE = math.log(10)
SEEDS = 2


def trained(values: list[float], accuracy: float = 0.5, noise: float = 0.001) -> list[TrialRecord]:
    """Records of candidates with these mean losses, whose two seeds differ by `noise` in random directions."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (len(values), 1)) * [[1.0, -1.0]]
    records = with_losses(np.array(values)[:, None] + noise * signs)
    return [with_accuracy(record, accuracy) for record in records]


def with_accuracy(record: TrialRecord, accuracy: float) -> TrialRecord:
    seeds = tuple(dataclasses.replace(seed, val_accuracy_curve=(accuracy,)) for seed in record.seeds)
    return dataclasses.replace(record, seeds=seeds)


def baseline(loss: float, accuracy: float = 0.5, seeds: int = SEEDS) -> TrialRecord:
    record = planted_reference(seeds=tuple(range(seeds)))
    curves = [dataclasses.replace(seed, val_loss_curve=(loss,)) for seed in record.seeds]
    return with_accuracy(dataclasses.replace(record, seeds=tuple(curves), phi=0.0), accuracy)


def standing(records: list[TrialRecord], reference: TrialRecord | None, metric: str = "val_loss") -> Standing:
    return standing_of(records, trials_table(records), reference, metric, 10)


@pytest.mark.parametrize("excess", [0.0, 0.1, -1e-6])
def test_nothing_is_learned_if_no_candidate_is_better_than_guessing(excess: float) -> None:
    losses = [CHANCE + excess, CHANCE + 0.1, CHANCE + 0.2]
    one = standing(trained(losses, accuracy=0.1), baseline(1.5))
    assert (one.state, one.no_better_than_guessing, one.networks) == ("nothing learned", 3, 4)
    assert one.answer.startswith("Nothing was learned: no candidate's validation loss is below ln 10 = 2.303")
    assert one.answer.endswith("There is no rule. Train longer (`training.epochs`) or change the learning rate.")
    assert standing([*trained([1.0, *losses])], None).state == "doubtful"  # one that learned is enough for a rule


def test_by_accuracy_chance_is_one_in_the_number_of_classes() -> None:
    losses = [CHANCE + 1, CHANCE + 1, CHANCE + 1]
    one = standing(trained(losses, accuracy=0.1), None, "val_accuracy")
    assert one.state == "nothing learned"
    assert "no candidate's validation accuracy is above 10.00%" in one.answer
    assert standing(trained(losses, accuracy=0.11), None, "val_accuracy").state == "sound"


def test_networks_that_classify_well_at_a_high_loss_are_called_overconfident() -> None:
    one = standing(trained([CHANCE + 1] * 3, accuracy=0.6), None)
    assert one.state == "nothing learned"
    assert "Yet up to 60.00% of the images are classified right: the networks are overconfident" in one.answer
    assert "Train longer" not in one.answer


def test_single_networks_that_guess_are_counted_first() -> None:
    one = standing(trained([0.5, 0.6, CHANCE]), baseline(CHANCE + 0.1))
    assert (one.state, one.better) == ("doubtful", True)
    assert one.answer.startswith(
        "2 of 4 networks, the baseline among them, are no better than guessing (validation loss 2.303 or more). Train"
    )


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (0.48, "is worse than the baseline (validation loss 0.5000 against 0.4800). Train longer"),
        (0.5005, "beats the baseline by no more than seed noise (validation loss 0.5000 against 0.5005). Run more"),
    ],
)
def test_a_baseline_that_is_as_good_at_half_the_cost_is_a_doubt(loss: float, said: str) -> None:
    one = standing(trained([0.5, 0.6, 0.7], noise=0.005), baseline(loss))
    assert (one.state, one.better) == ("doubtful", False)
    assert f"At {one.best_ratio:.3g}× the cost the best candidate {said}" in one.answer


def test_otherwise_a_sentence_says_what_the_cost_buys() -> None:
    records = trained([0.6, 0.5, 0.7])
    one = standing(records, baseline(0.55))
    assert (one.state, one.better, one.best, one.baseline) == (
        "sound", True, pytest.approx(0.5), pytest.approx(0.55),
    )  # fmt: skip
    assert one.best_ratio == records[1].candidate.cost_ratio
    assert one.answer == (
        f"At {one.best_ratio:.3g}× the cost the best candidate lowers the validation loss by 0.0500 from the "
        "baseline's 0.5500."
    )
    by_accuracy = standing([with_accuracy(records[0], 0.6), *records[1:]], baseline(0.55), "val_accuracy")
    assert "raises the validation accuracy by 10.00 percentage points from the baseline's 50.00%" in by_accuracy.answer
    assert standing(records, None).answer == ""


def test_one_seed_each_does_not_show_the_noise() -> None:
    records = with_losses(np.array([[0.5], [0.6], [0.7]]))
    one = standing(records, baseline(0.55, seeds=1))
    assert (one.state, one.better) == ("sound", None)
    assert one.answer.endswith("With one seed each the seed noise is unknown.")
    assert standing(records, baseline(0.45, seeds=1)).state == "doubtful"


def test_a_baseline_without_a_result_is_said() -> None:
    failed = dataclasses.replace(baseline(1.0), seeds=(), failure=Failure("diverged", "loss must stay finite"))
    one = standing(trained([0.5, 0.6]), failed)
    assert (one.state, one.baseline, one.networks) == ("doubtful", None, 2)
    assert one.answer.startswith("The baseline has no result (diverged: loss must stay finite). Train")
    with pytest.raises(InsufficientTrials, match="none of 1 finished"):
        standing([failed], None)


def test_further_levels_are_not_compared_with_the_baseline() -> None:
    records = trained([0.5, 0.6, 0.3])
    records[2] = dataclasses.replace(records[2], phi=2.0)
    assert standing(records, baseline(0.4)).best == pytest.approx(0.5)


def test_the_comparison_is_that_of_the_tied_set() -> None:
    records = planted_records(PlantedSurface())
    runs = trials_table(records)
    tied = candidates_table(records, 2.0, "val_loss").set_index("candidate")["tied"]
    model = two_way(finished_runs(runs, "val_loss"), "val_loss")
    beaten = [is_beaten(model, number, "val_loss") for number in model.candidates]
    assert beaten == [not tied[number] for number in model.candidates]
    assert 0 < sum(map(bool, beaten)) < len(beaten)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("metric", "loss", "seeds"),
    [("val_loss", 0.7, 3), ("val_loss", 1e-7, 2), ("val_accuracy", 0.7, 2), ("val_loss", 0.7, 1)],
)
def test_ties_share_the_chance_and_no_library_warns(metric: str, loss: float, seeds: int) -> None:
    """Whether the seeds differ from each other or not, all candidates have the same results."""
    for effects in (np.zeros(seeds), 0.1 * loss * np.arange(seeds)):
        records = [with_accuracy(record, 1.0) for record in with_losses(np.tile(loss + effects, (15, 1)))]
        runs, table = trials_table(records), candidates_table(records, 2.0, metric)
        chances = table["chance"].to_numpy()
        assert np.isnan(chances).all() if seeds == 1 else (chances == 1 / 15).all()
        assert table["tied"].all()
        verdict = choose(runs, table, 2.0, metric).signal.verdict
        assert ("all 15 candidates have the same" in verdict) is (seeds > 1)
        one = standing(records, baseline(loss, 1.0, seeds), metric)
        assert ('The task is too easy for this metric: set `metric = "val_loss"`.' in one.answer) is (
            metric == "val_accuracy"
        )
