"""What grows with φ besides the network, against the published tables."""

import pytest

from scalesearch.scaling.cost.count import Complexity
from scalesearch.scaling.growth import grown, recipe, training_memory

TRAINING = {
    "epochs": 3, "dropout": 0.2, "stochastic_depth": 0.2, "rand_augment": 2, "rand_augment_magnitude": 6.0,
}  # fmt: skip


def test_dropout_follows_efficientnets_table() -> None:
    # tensorflow/tpu efficientnet_builder.py, B0 to B7; the released values are rounded to tenths.
    for phi, released in enumerate((0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5)):
        assert grown(TRAINING, phi)["dropout"] == pytest.approx(released, abs=0.05)


def test_values_stay_within_their_bounds_and_the_rest_stays() -> None:
    assert grown(TRAINING, 0) == TRAINING
    most = grown(TRAINING, 100)
    assert most == {**TRAINING, "dropout": 0.5, "stochastic_depth": 0.5, "rand_augment_magnitude": 10.0}
    assert grown({"dropout": 0.7}, 3) == {"dropout": 0.7}
    least = grown(TRAINING, -100)
    assert (least["dropout"], least["stochastic_depth"], least["rand_augment_magnitude"]) == (0, 0, 0)


def test_what_the_baseline_does_without_no_member_has() -> None:
    without = {"dropout": 0.0, "rand_augment": 0, "rand_augment_magnitude": 9.0, "evaluation_resolution": None}
    assert grown(without, 5) == without


def test_a_step_of_another_budget_counts_by_its_doublings() -> None:
    assert grown(TRAINING, 1, budget=4) == grown(TRAINING, 2)


def test_the_resolution_of_evaluation_grows_with_the_network() -> None:
    values = grown({"evaluation_resolution": 256}, 2, enlarged=288 / 224)
    assert recipe(values, 288) == {"resolution": 288, "evaluation_resolution": 329}
    assert recipe({}, 288) == {"resolution": 288, "evaluation_resolution": 288}


def test_memory_counts_parameters_and_the_maps_of_a_batch() -> None:
    one, two = (training_memory(Complexity(0, 100, 1000), batch) for batch in (1, 2))
    assert two - one == 12 * 1000
    assert one == 24 * 100 + 12 * 1000
