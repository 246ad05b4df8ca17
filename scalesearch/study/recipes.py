"""The recipe of `train`: how long, and by which optimiser, schedule and regularisation, one network trains."""

from __future__ import annotations

import math
from typing import Any

from scalesearch.scaling.growth import grown
from scalesearch.study.documents import Section, read
from scalesearch.study.training import RecipeSection, TrainingSection, TrainSection

PAPER_IMAGES = 100_000
"""Training images from which `auto` takes the paper's recipe. It was made for 1.28 million: its averages look back over
hundreds and thousands of steps, which fewer images do not give; there, the study's schedule is known to work."""
LONGER = 5
"""How many times the epochs of its `[training]` the recipe `study` takes."""

# arXiv:1905.11946 §5.2 and, for what it does not say (epochs, warm-up, rate for the batch), the released code:
# tensorflow/tpu models/official/efficientnet/main.py. RandAugment's two operations stand for AutoAugment.
_PAPER: dict[str, Any] = {
    "epochs": 350,
    "optimizer": "rmsprop",
    "momentum": 0.9,
    "schedule": "exponential",
    "decay_rate": 0.97,
    "decay_epochs": 2.4,
    "warmup_epochs": 5.0,
    "final_learning_rate_fraction": 0.0,
    "weight_decay": 1e-5,
    "statistics_decay": 0.99,
    "label_smoothing": 0.1,
    "dropout": 0.2,
    "stochastic_depth": 0.2,
    "rand_augment": 2,
    "rand_augment_magnitude": 9.0,
}
_PAPER_RATE = 0.016  # for 256 images in a batch
_PAPER_EMA_DECAY = 0.9999
_AVERAGED_FRACTION = 0.1  # of all steps: 0.9999 in the paper's 109,375 steps of 4096 images


# Kornblith et al., arXiv:1805.08974 (fine-tuning), whom arXiv:1905.11946 §5.3 follows: SGD with Nesterov momentum, a
# cosine without warm-up, running statistics that look back a tenth of an epoch or ten steps, and as many steps of few
# images as of many. Their 20,000 steps are for GPUs. The rate is the second highest of their grid, 10⁻⁴ to 0.1.
_TRANSFER: dict[str, Any] = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "schedule": "cosine",
    "final_learning_rate_fraction": 0.0,
    "warmup_epochs": 0.0,
    "decay_rate": 0.97,
    "decay_epochs": 2.4,
}
_TRANSFER_RATE = 0.03
_TRANSFER_STEPS = 400
"""Of few images, a network sees as many epochs as make these steps."""


class _Document(Section):
    train: TrainSection


def recipe(
    training: TrainingSection,
    images: int,
    *,
    phi: float = 0.0,
    budget: float = 2.0,
    section: RecipeSection | None = None,
    where: str = "recipe",
) -> TrainSection:
    """The whole recipe: that of a name, at the length that is asked for, with the user's own values.

    `paper` is EfficientNet's, with the batch size, the precision and all augmentation of the study: whether an image
    may be mirrored or cropped is a fact of the data. `study` is the study's `[training]` with more epochs. `transfer`
    is for a network that begins with the weights of another training: SGD at a low rate for the epochs of the study, or
    more of few images, with its batch size, precision and augmentation. `auto` takes `paper` from `PAPER_IMAGES` images
    on. In another number of epochs the learning rate decays as far, and the warm-up is at most a tenth of fewer epochs.

    Args:
        training: the study's `[training]`.
        images: training images.
        phi: the φ of the network; larger ones are regularised more (`scaling.growth`).
        budget: what a step of φ multiplies the cost by.
        section: the user's `[train]`.
        where: names the document in errors.

    Raises:
        InputError: values that do not go together.

    >>> study = TrainingSection(epochs=12, batch_size=128, learning_rate=0.004)
    >>> recipe(study, 5_000).epochs
    60
    >>> large = recipe(study, 1_281_167)
    >>> large.optimizer, large.learning_rate, large.epochs
    ('rmsprop', 0.008, 350)
    """
    section = section or RecipeSection()
    given, name = section.given(), section.recipe
    if name == "auto":
        name = "paper" if images >= PAPER_IMAGES else "study"

    # The recipe of that name, at the length that is asked for.
    named = {"paper": _PAPER, "study": _longer(training), "transfer": _transfer(training, images, given)}
    values = {**dict(training), **named[name]}
    values = _in_epochs(values, given.get("epochs", values["epochs"]))
    if name == "paper":
        batch_size = given.get("batch_size", training.batch_size)
        values["learning_rate"] = _PAPER_RATE * batch_size / 256
        values["ema_decay"] = _ema_decay(values["epochs"] * (images // batch_size))

    # What grows with the network, then the user's own values.
    values = _made_for(grown(values, phi, budget), given) | given
    return read(_Document, {"train": values}, lambda document: document.train, where)


def _longer(training: TrainingSection) -> dict[str, Any]:
    """What `study` changes in the study's `[training]`."""
    if training.schedule == "cosine":
        return {"epochs": training.epochs * LONGER}
    return {"epochs": training.epochs * LONGER, "decay_epochs": training.decay_epochs * LONGER}


def _transfer(training: TrainingSection, images: int, given: dict[str, Any]) -> dict[str, Any]:
    """What `transfer` changes in the study's `[training]`."""
    steps = max(images // given.get("batch_size", training.batch_size), 1)  # of an epoch
    return {
        **_TRANSFER,
        "epochs": max(training.epochs, math.ceil(_TRANSFER_STEPS / steps)),
        "learning_rate": _TRANSFER_RATE,
        "statistics_decay": max(1 - 10 / steps, 0.9),
    }


def _in_epochs(values: dict[str, Any], epochs: int) -> dict[str, Any]:
    """`values` for another number of epochs: the same decay in all, and a warm-up of no more than a tenth of fewer."""
    ratio = epochs / values["epochs"]
    changes: dict[str, Any] = {"epochs": epochs}
    if values["schedule"] == "exponential":
        changes["decay_epochs"] = values["decay_epochs"] * ratio
    if ratio < 1:
        changes["warmup_epochs"] = min(values["warmup_epochs"], epochs / 10)
    return values | changes


def _ema_decay(steps: int) -> float:
    """The decay of a moving average over a tenth of the steps, or over the paper's 10,000."""
    return min(_PAPER_EMA_DECAY, max(0.0, 1 - 1 / max(_AVERAGED_FRACTION * steps, 1)))


def _made_for(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`values` without those that belong to what the user has chosen against: another schedule, no RandAugment."""
    unused = []
    if given.get("schedule", values["schedule"]) != values["schedule"]:
        unused = ["decay_rate", "decay_epochs", "final_learning_rate_fraction"]
    if given.get("rand_augment") == 0:
        unused.append("rand_augment_magnitude")
    return {key: value for key, value in values.items() if key not in unused}
