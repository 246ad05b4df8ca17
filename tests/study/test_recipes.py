"""The recipe of `train`: by name, by the amount of data, at another length, and with the user's own values."""

from __future__ import annotations

from typing import Any

import pytest

from scalesearch.errors import InputError
from scalesearch.study.load import StudyFileError, load_study
from scalesearch.study.recipes import PAPER_IMAGES, recipe
from scalesearch.study.training import RecipeSection, TrainingSection, TrainSection

STUDY = TrainingSection(
    epochs=12,
    batch_size=64,
    learning_rate=0.004,
    final_learning_rate_fraction=0.01,
    weight_decay=0.02,
    ema_decay=0.98,
    flip=True,
    crop=0.5,
    precision="bfloat16",
)
IMAGENET = 1_281_167


def made(images: int = 5000, training: TrainingSection = STUDY, **given: Any) -> TrainSection:
    return recipe(training, images, section=RecipeSection(**given), where="study.toml")


def test_the_paper_s_recipe_at_the_paper_s_batch() -> None:
    assert made(IMAGENET, batch_size=4096) == TrainSection(
        epochs=350,
        batch_size=4096,
        optimizer="rmsprop",
        learning_rate=0.256,
        warmup_epochs=5,
        schedule="exponential",
        decay_rate=0.97,
        decay_epochs=2.4,
        weight_decay=1e-5,
        momentum=0.9,
        label_smoothing=0.1,
        ema_decay=0.9999,
        statistics_decay=0.99,
        dropout=0.2,
        stochastic_depth=0.2,
        flip=True,  # a fact of the data, as is the crop
        crop=0.5,
        rand_augment=2,
        precision="bfloat16",
    )


def test_a_transfer_takes_as_many_steps_of_few_images_as_of_many() -> None:
    few, many = made(640, recipe="transfer"), made(64_000, recipe="transfer")
    assert (few.epochs, many.epochs) == (40, 12)  # 400 steps of 64 images, the study's epochs
    assert (few.statistics_decay, many.statistics_decay) == (0.9, 0.99)
    for each in (few, many):
        assert (each.optimizer, each.momentum, each.learning_rate, each.warmup_epochs) == ("sgd", 0.9, 0.03, 0)
        assert (each.batch_size, each.flip, each.precision) == (64, True, "bfloat16")
    assert made(640, recipe="transfer", batch_size=32, epochs=3).epochs == 3


def test_the_study_s_own_schedule_made_longer() -> None:
    assert dict(made()) == {**dict(TrainSection(**dict(STUDY))), "epochs": 60}
    stairs = STUDY.model_copy(update={"schedule": "exponential", "final_learning_rate_fraction": 0.0})
    assert made(training=stairs).decay_epochs == pytest.approx(5 * 2.4)  # decays as far as in the study


def test_the_data_choose() -> None:
    optimizers = [made(images).optimizer for images in (PAPER_IMAGES - 1, PAPER_IMAGES)]
    assert optimizers == ["adamw", "rmsprop"]
    assert made(IMAGENET, recipe="study").epochs == 60


def test_a_larger_network_is_regularised_more_unless_the_user_says_how() -> None:
    seven, four = (recipe(STUDY, IMAGENET, phi=phi, budget=budget) for phi, budget in ((7, 2.0), (2, 4.0)))
    assert (seven.dropout, seven.stochastic_depth) == (0.5, 0.5)  # B7, of 0.2 for B0
    assert four.dropout == pytest.approx(0.2 * (1 + 4 * 1.5 / 7), abs=1e-6)  # 4² is four doublings
    given = RecipeSection.model_validate({"dropout": 0.1})
    assert recipe(STUDY, IMAGENET, phi=7, section=given).dropout == 0.1
    assert recipe(STUDY, 5000, phi=7) == recipe(STUDY, 5000)  # what the study does without


def test_another_length_decays_as_far_and_looks_back_less() -> None:
    short = made(6400, recipe="paper", epochs=35)
    assert (short.warmup_epochs, short.decay_epochs) == pytest.approx((3.5, 0.24))
    assert short.ema_decay == pytest.approx(1 - 1 / 350)  # a tenth of 35 · 100 steps
    assert made(recipe="paper", epochs=700).warmup_epochs == 5
    assert made(epochs=3).warmup_epochs == pytest.approx(0.3)


def test_what_the_user_says_wins_and_takes_what_goes_with_it() -> None:
    values = made(recipe="paper", schedule="cosine", rand_augment=0, learning_rate=0.1, epochs=5, warmup_epochs=2.0)
    assert (values.learning_rate, values.warmup_epochs, values.decay_epochs) == (0.1, 2, 2.4)
    assert made(schedule="exponential").final_learning_rate_fraction == 0
    assert made(frozen=True, seed=3, evaluation_resolution=40).evaluation_resolution == 40


def test_larger_networks_are_regularised_more_unless_the_user_says_how_much() -> None:
    large = recipe(STUDY, IMAGENET, phi=3.5, budget=4.0)  # seven doublings, as from B0 to B7
    assert (large.dropout, large.stochastic_depth, large.rand_augment_magnitude) == (0.5, 0.5, 10)
    assert recipe(STUDY, IMAGENET, phi=7, section=RecipeSection(dropout=0.3)).dropout == 0.3
    assert recipe(STUDY, 5000, phi=7).dropout == 0  # the study has none


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"warmup_epochs": 60.0}, "`train.warmup_epochs` must be below `epochs` (60), but got 60"),
        ({"decay_rate": 0.5}, "`train.decay_rate` needs `schedule` exponential, but got cosine"),
        ({"recipe": "paper", "final_learning_rate_fraction": 0.1}, "`train.final_learning_rate_fraction` needs `sch"),
        ({"frozen": True, "layer_rate": 0.5}, "`train.layer_rate` must be 1 where `frozen` is true, but got 0.5"),
    ],
)
def test_values_that_do_not_go_together_are_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        made(**given)
    assert str(caught.value).startswith(f"study.toml: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epoch", 3, "unknown key `train.epoch` (did you mean `epochs`?)"),
        ("epochs", "many", "`train.epochs` must be a whole number, but got 'many'"),
        ("dropout", 1.0, "`train.dropout` must be less than 1, but got 1.0"),
        ("recipe", "best", "`train.recipe` must be 'auto', 'paper', 'study' or 'transfer', but got 'best'"),
        ("warmup_epochs", 5, "`train.warmup_epochs` must be below `epochs` (5), but got 5"),
    ],
)
def test_a_study_file_s_section_is_validated(key: str, value: object, message: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        load_study("mnist_sample", {"train.epochs": 5, f"train.{key}": value})
    assert message in str(caught.value)


def test_the_section_is_no_part_of_the_study_s_identity() -> None:
    plain, with_section = (load_study("mnist_sample", changes) for changes in ({}, {"train.epochs": 5}))
    assert with_section.train is not None
    assert with_section.train.given() == {"epochs": 5}
    assert with_section.identity() == plain.identity()
