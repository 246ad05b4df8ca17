"""Measures of an evaluation against scikit-learn's and statsmodels', and by hand where they have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, log_loss, top_k_accuracy_score
from statsmodels.stats.proportion import proportion_confint

from scalesearch.data.images import Split
from scalesearch.trained.evaluation import Evaluation, evaluate_images
from scalesearch.trained.labelled import Labelled
from scalesearch.trained.model import Model, softmax


class Planted(Model):
    """A model whose logits are planted: an image's first pixel says which."""

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(map(str, range(self._logits.shape[1])))

    def serve(self, squares: np.ndarray) -> np.ndarray:
        rows: np.ndarray = self._logits[squares[:, 0, 0, 0]]
        return rows

    def squares(self, images: np.ndarray) -> np.ndarray:
        return images


def judged(logits: Any, labels: Any, mistakes: int = 0) -> Evaluation:
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    split = Split(images, np.asarray(labels, np.int32))
    return evaluate_images(
        Planted(np.asarray(logits, np.float32)), Labelled(split, "test", "planted"), mistakes=mistakes
    )


def test_measures_are_those_of_other_libraries():
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 6, 200)  # of class 6 there are none
    logits = draw.normal(0, 2, (200, 7)).astype(np.float32)
    logits[np.arange(200), labels] += 2
    found = judged(logits, labels, mistakes=3)
    predicted, shares = logits.argmax(1), softmax(logits.astype(np.float64))
    right = int((predicted == labels).sum())
    assert found.images == 200
    assert found.accuracy == right / 200
    assert found.interval == pytest.approx(proportion_confint(right, 200, 0.05, "wilson"))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, predicted, labels=range(7)))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.cross_entropy == pytest.approx(log_loss(labels, shares, labels=range(7)))
    assert found.top5 == top_k_accuracy_score(labels, logits, k=5, labels=range(7))
    assert np.isnan(found.class_accuracies[6])
    worst = sorted(shares.max(1)[predicted != labels])[::-1][:3]
    assert [mistake.probability for mistake in found.mistakes] == pytest.approx(worst)
    for mistake in found.mistakes:
        place = int(mistake.image[0, 0, 0])
        assert (mistake.label, mistake.predicted) == (labels[place], predicted[place])


def test_calibration_error_by_hand():
    # Confidences 0.9 (right), 0.9 (wrong) and 0.6 (right) are in two bins: (2 · |0.5 − 0.9| + |1 − 0.6|) / 3.
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    assert judged(logits, [0, 1, 1]).calibration_error == pytest.approx((0.8 + 0.4) / 3, rel=1e-6)
    # 0.65 and 0.68 differ by less than 1/15, but lie on both sides of 10/15.
    logits = np.log([[0.65, 0.35], [0.68, 0.32]])
    assert judged(logits, [0, 1]).calibration_error == pytest.approx((0.35 + 0.68) / 2, rel=1e-6)


def test_extreme_logits_have_finite_losses():
    found = judged([[1000.0, 0.0], [0.0, 1000.0]], [0, 0])
    assert found.cross_entropy == pytest.approx(500)
    assert found.top5 is None


def test_of_equal_mistakes_the_first_are_kept():
    found = judged([[2.0, 0.0]] * 5 + [[0.0, 3.0]], [1] * 5 + [0], mistakes=3)
    assert [int(mistake.image[0, 0, 0]) for mistake in found.mistakes] == [5, 0, 1]


def test_its_json_has_the_confusion():
    document = judged([[1.0, 0.0], [1.0, 0.0]], [0, 1]).to_json()
    assert document["confusion"] == [[1, 0], [1, 0]]
    assert (document["split"], document["images"], document["top5_accuracy"]) == ("test", 2, None)
