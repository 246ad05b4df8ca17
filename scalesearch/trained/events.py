"""What a training of one network reports while it runs: frozen values. The receiver decides what to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scalesearch.search.events import Preparing
from scalesearch.trained.curves import EpochRow


@dataclass(frozen=True, slots=True)
class TrainingPlanned:
    """A network is about to train.

    Attributes:
        name: of the network.
        epochs: in all.
        images: training images of an epoch.
        predicted_seconds: of the whole training, on `search.plan.timing.DEVICE`.
    """

    name: str
    epochs: int
    images: int
    predicted_seconds: float


@dataclass(frozen=True, slots=True)
class TrainingStarted:
    """The network is compiled and trains from here on: `done` epochs, a whole number or not, are trained already."""

    done: float


@dataclass(frozen=True, slots=True)
class PartTrained:
    """`done` epochs are trained, a whole number or not, the last images at this speed."""

    done: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class EpochTrained:
    """An epoch ended, the best one so far or not."""

    row: EpochRow
    best: bool


Event = TrainingPlanned | Preparing | TrainingStarted | PartTrained | EpochTrained | str
"""What is reported; a string is a sentence for the user."""

OnEvent = Callable[[Event], object]
