"""What an evaluation says, as sentences and tables."""

from __future__ import annotations

import numpy as np

from scalesearch.report.views.table import Table, make_table, named_values
from scalesearch.runtime.text import percent, plural
from scalesearch.trained.evaluation import Evaluation

CONFUSIONS = 20
"""Pairs of classes in the table of confusions."""


def what(evaluation: Evaluation) -> str:
    """What was evaluated."""
    return f"{plural(evaluation.images, 'image')} of the {evaluation.split} split of {evaluation.source}"


def measures(evaluation: Evaluation) -> Table:
    """The measures, one a row."""
    low, high = (f"{100 * bound:.1f}" for bound in evaluation.interval)
    rows = {"top-1 accuracy": f"{percent(evaluation.accuracy)} (95 % interval {low} to {high} %)"}
    if evaluation.top5 is not None:
        rows["top-5 accuracy"] = percent(evaluation.top5)
    rows["balanced accuracy"] = percent(evaluation.balanced_accuracy)
    rows["cross-entropy"] = f"{evaluation.cross_entropy:.4f} nats"
    rows["expected calibration error"] = percent(evaluation.calibration_error)
    return named_values(f"On {what(evaluation)}", rows)


def by_class(evaluation: Evaluation) -> Table:
    """The accuracy on the images of each class, the lowest first, and what its images are taken for most."""
    confusion, accuracies, counts = evaluation.confusion, evaluation.class_accuracies, evaluation.class_counts
    rows = []
    for label in np.argsort(accuracies, kind="stable").tolist():  # classes without images come last
        wrong = confusion[label].copy()
        wrong[label] = 0
        most = int(wrong.argmax())
        taken = f"{evaluation.classes[most]} ({wrong[most]:,})" if wrong[most] else ""
        accuracy = f"{accuracies[label]:.3f}" if counts[label] else ""
        rows.append(
            {
                "class": evaluation.classes[label],
                "images": f"{counts[label]:,}",
                "accuracy": accuracy,
                "most often taken for": taken,
            }
        )
    return make_table("Accuracy by class, the lowest first", rows)


def confusions(evaluation: Evaluation) -> Table:
    """The pairs of classes that are confused most."""
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    places = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [(int(place) // len(wrong), int(place) % len(wrong)) for place in places]
    names = evaluation.classes
    rows = [
        {"class": names[label], "taken for": names[other], "images": f"{wrong[label, other]:,}"}
        for label, other in pairs
        if wrong[label, other]
    ]
    return make_table("What is confused most", rows)
