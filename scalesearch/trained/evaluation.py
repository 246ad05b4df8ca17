"""How good a model is on labelled images: accuracy, calibration, confusion, and its most confident mistakes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from scalesearch.data.decoding import decode_in_parts
from scalesearch.data.images import Pictures, Split
from scalesearch.errors import InputError
from scalesearch.trained.labelled import Labelled
from scalesearch.trained.model import Model, softmax
from scalesearch.trained.program import BATCHES

BINS = 15
"""Of the confidence, in the expected calibration error (arXiv:1706.04599, section 4)."""

TOP = 5
_LEVEL = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Mistake:
    """An image as the network takes it, its class and the wrong one that was predicted with this probability."""

    image: UInt8[np.ndarray, "r r c"]
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What a model does on a split.

    Attributes:
        source: the data source.
        split: test, validation or train.
        images: how many.
        classes: their names, in the order of `confusion`.
        accuracy: the fraction whose most probable class is right (top-1).
        interval: of the accuracy, 95 %, by Wilson's score.
        top5: the fraction whose class is among the five most probable ones; None for five classes or fewer.
        balanced_accuracy: the mean over classes of the accuracy on their images; of classes that have images.
        cross_entropy: in nats.
        calibration_error: the expected difference between probability and accuracy of what is predicted, in 15 bins
            of equal width (Guo et al. 2017, arXiv:1706.04599).
        confusion: images of a class (row) for which another was predicted (column).
        mistakes: those of the largest probability, the worst first.
    """

    source: str
    split: str
    images: int
    classes: tuple[str, ...]
    accuracy: float
    interval: tuple[float, float]
    top5: float | None
    balanced_accuracy: float
    cross_entropy: float
    calibration_error: float
    confusion: Int[np.ndarray, "k k"]
    mistakes: tuple[Mistake, ...] = ()

    @property
    def class_counts(self) -> Int[np.ndarray, " k"]:
        """Images of each class."""
        counts: np.ndarray = self.confusion.sum(1)
        return counts

    @property
    def class_accuracies(self) -> Float[np.ndarray, " k"]:
        """The accuracy on the images of each class; NaN for a class without any."""
        counts = self.class_counts
        return np.where(counts > 0, self.confusion.diagonal() / np.maximum(counts, 1), np.nan)

    def to_json(self) -> dict[str, Any]:
        """The evaluation as `evaluate --json` prints it."""
        return {
            "source": self.source,
            "split": self.split,
            "images": self.images,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.interval),
            "top5_accuracy": self.top5,
            "balanced_accuracy": self.balanced_accuracy,
            "cross_entropy": self.cross_entropy,
            "calibration_error": self.calibration_error,
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
        }


OnImages = Callable[[int, int], object]
"""Called with how many images are evaluated of how many."""


def evaluate_images(
    model: Model, labelled: Labelled, *, mistakes: int = 0, on_images: OnImages = lambda done, total: None
) -> Evaluation:
    """Evaluates `model` on images, part after part, so that memory stays bounded.

    Args:
        model: the model.
        labelled: the images, from `trained.labelled`.
        mistakes: how many of the most confident mistakes to keep.
        on_images: called after each part.

    Raises:
        InputError: a picture cannot be read.
    """
    split = labelled.images
    if not len(split):
        raise InputError(f"{labelled.source}: its {labelled.split} split has no images")
    tally, done = _Tally(len(model.classes), mistakes), 0
    for squares in _squares(model, split):
        labels = split.labels[done : done + len(squares)]
        tally.add(squares, model.serve(squares), labels)
        done += len(squares)
        on_images(done, len(split))
    return tally.evaluation(model.classes, labelled)


def _squares(model: Model, split: Split) -> Generator[UInt8[np.ndarray, "n r r c"], None, None]:
    """The images at the model's resolution, in parts."""
    if isinstance(split.images, Pictures):
        yield from decode_in_parts(split.images, model.spec.resolution)
        return
    size = BATCHES[-1]
    for start in range(0, len(split), size):
        yield model.squares(split.images[start : start + size])


class _Tally:
    """Sums over images, from which all measures follow."""

    def __init__(self, classes: int, mistakes: int) -> None:
        self._confusion = np.zeros((classes, classes), np.int64)
        self._among_top, self._loss = 0, 0.0
        self._bins = np.zeros((3, BINS))  # images, their confidences, how many are right
        self._kept, self._wrong = mistakes, 0
        self._mistakes: list[tuple[float, int, Mistake]] = []  # a heap, the least confident first

    def add(self, squares: np.ndarray, logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> None:
        """Counts a part of the images."""
        wide = logits.astype(np.float64)
        probabilities, rows = softmax(wide), np.arange(len(labels))
        predicted = logits.argmax(1)
        confidences, right = probabilities[rows, predicted], predicted == labels
        np.add.at(self._confusion, (labels, predicted), 1)
        # Of equal logits the first is the more probable one, as for `argmax`.
        own = wide[rows, labels][:, None]
        before = (wide > own).sum(1) + ((wide == own) & (np.arange(wide.shape[1]) < labels[:, None])).sum(1)
        self._among_top += int((before < TOP).sum())
        top = wide.max(1)
        self._loss += float((np.log(np.exp(wide - top[:, None]).sum(1)) + top - own[:, 0]).sum())
        places = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
        for total, values in zip(self._bins, (np.ones(len(labels)), confidences, right), strict=True):
            np.add.at(total, places, values)
        if self._kept:
            for place in np.flatnonzero(~right):
                self._keep(squares[place], int(labels[place]), int(predicted[place]), float(confidences[place]))

    def _keep(self, image: np.ndarray, label: int, predicted: int, probability: float) -> None:
        self._wrong += 1  # of two that are equally confident, the first one is kept
        entry = (probability, -self._wrong, Mistake(image.copy(), label, predicted, probability))
        if len(self._mistakes) < self._kept:
            heapq.heappush(self._mistakes, entry)
        elif entry > self._mistakes[0]:
            heapq.heapreplace(self._mistakes, entry)

    def evaluation(self, classes: tuple[str, ...], labelled: Labelled) -> Evaluation:
        """The measures of all that was added."""
        from scipy.stats import binomtest  # takes half a second

        counts, right = self._confusion.sum(1), self._confusion.diagonal()
        images, correct = int(counts.sum()), int(right.sum())
        interval = binomtest(correct, images).proportion_ci(_LEVEL, method="wilson")
        there, (_, confidences, accuracies) = counts > 0, self._bins
        worst = sorted(self._mistakes, reverse=True)
        return Evaluation(
            source=labelled.source,
            split=labelled.split,
            images=images,
            classes=classes,
            accuracy=correct / images,
            interval=(float(interval.low), float(interval.high)),
            top5=self._among_top / images if len(classes) > TOP else None,
            balanced_accuracy=float((right[there] / counts[there]).mean()),
            cross_entropy=self._loss / images,
            calibration_error=float(np.abs(accuracies - confidences).sum() / images),
            confusion=self._confusion,
            mistakes=tuple(mistake for *_, mistake in worst),
        )
