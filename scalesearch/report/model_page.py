"""The report of a trained model: its curves, what it confuses, its worst mistakes, and what it was made with."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from scalesearch.data.splits import Splits
from scalesearch.errors import InputError
from scalesearch.report.figures import model as figures
from scalesearch.report.page import Block, Section, drawn, page, section
from scalesearch.report.views import evaluation as views
from scalesearch.report.views import results
from scalesearch.report.views.table import network, quantity
from scalesearch.runtime.files import write_text
from scalesearch.runtime.text import percent, plural
from scalesearch.scaling.cost.count import complexity
from scalesearch.trained.card import ModelCard
from scalesearch.trained.curves import CURVES_FILE, EpochRow, best_of, read_curves
from scalesearch.trained.evaluation import Evaluation, Mistake, OnImages, evaluate_images
from scalesearch.trained.labelled import labelled_images, labelled_split
from scalesearch.trained.model import read_model

REPORT_FILE = "report.html"

_WORST = 24
_SIDE = 112
"""Pixels of the side of a mistake's picture in the page, at least."""


def write_model_report(
    folder: Path, splits: Splits | None = None, on_images: OnImages = lambda done, total: None
) -> Evaluation:
    """Evaluates the trained model in `folder` and writes its report.html, at once or not at all.

    The images are those of the test split, or if there is none of the validation split.

    Args:
        folder: holds model.json, weights.safetensors and, if it was trained here, curves.csv.
        splits: the data of the training; None reads them where the card says.
        on_images: called with how many images are evaluated of how many.

    Raises:
        InputError: the model is not whole, its data cannot be read, or the report cannot be written.
    """
    model = read_model(folder)
    labelled = labelled_images(model.card) if splits is None else labelled_split(model.card, splits)
    evaluation = evaluate_images(model, labelled, mistakes=_WORST, on_images=on_images)
    text = render(model.card, curves_of(folder), evaluation)
    try:
        write_text(folder / REPORT_FILE, text)
    except OSError as error:
        raise InputError(f"{folder / REPORT_FILE}: cannot be written ({error.strerror})") from None
    return evaluation


def curves_of(folder: Path) -> tuple[EpochRow, ...]:
    """The rows of curves.csv; none for a model that was not trained here. Raises `InputError` as `read_curves`."""
    return read_curves(folder) if (folder / CURVES_FILE).exists() else ()


def render(card: ModelCard, curves: Sequence[EpochRow], evaluation: Evaluation) -> str:
    """The report as a page; `curves` are the rows of curves.csv, if there are any."""
    low, high = (f"{100 * bound:.1f}" for bound in evaluation.interval)
    answer = (
        f"Of the {views.what(evaluation)}, {percent(evaluation.accuracy)} are classified right "
        f"(95 % interval {low} to {high} %)."
    )
    head: list[Block] = [("soft", _subtitle(card)), ("answer", answer), ("facts", views.measures(evaluation))]
    shows_figures = bool(curves) or _has_matrix(evaluation)
    return page(card.name, head, [*_sections(curves, evaluation), _made_with(card)], figures=shows_figures)


def _has_matrix(evaluation: Evaluation) -> bool:
    return len(evaluation.classes) <= figures.MOST_CLASSES


def _sections(curves: Sequence[EpochRow], evaluation: Evaluation) -> Iterator[Section]:
    best = best_of(curves)
    if best is not None:
        loss = figures.curves(curves, figures.LOSSES, "Loss", "cross-entropy (nats)")
        accuracy = figures.curves(curves, figures.ACCURACIES, "Accuracy on the validation split", "fraction")
        yield section(
            "training",
            "Training",
            ("grid", [drawn(loss, "loss"), drawn(accuracy, "accuracy")]),
            ("soft", f"Dashed: epoch {best.epoch}, the best one, whose weights the model has."),
        )
    yield section(
        "confusion",
        "Confusion",
        *([("figure", drawn(figures.confusion(evaluation), "confusion"))] if _has_matrix(evaluation) else []),
        ("table", views.confusions(evaluation)),
    )
    yield section("classes", "Classes", ("table", views.by_class(evaluation)))
    if evaluation.mistakes:
        pictures = [_picture(mistake, evaluation.classes) for mistake in evaluation.mistakes]
        text = "The mistakes of the largest probability, as the network sees the pictures."
        yield section("mistakes", "Worst mistakes", ("soft", text), ("pictures", pictures))


def _made_with(card: ModelCard) -> Section:
    how = card.preprocessing.model_dump(mode="json") if card.preprocessing else {}
    rule = (
        {key: card.rule[key] for key in ("alpha", "beta", "gamma", "budget") if key in card.rule} if card.rule else {}
    )
    facts = {
        "network": network(card.spec),
        **({"rule": rule} if rule else {}),
        **({"phi": card.phi} if card.phi is not None else {}),
        "preprocessing": how,
        "data": card.data,
        "training": card.training,
        **card.provenance,
    }
    return section("provenance", "Provenance", ("facts", results.facts("What it was made with", facts)))


def _subtitle(card: ModelCard) -> str:
    cost = complexity(card.spec)
    parts = (
        network(card.spec),
        f"{quantity(cost.macs)} macs",
        f"{quantity(cost.params)} parameters",
        plural(card.spec.num_classes, "class", "classes"),
    )
    return ", ".join(parts)


def _picture(mistake: Mistake, classes: tuple[str, ...]) -> dict[str, Any]:
    """A mistake for the template: a PNG in the page, what it shows, and the line below it."""
    pixels = mistake.image[..., 0] if mistake.image.shape[-1] == 1 else mistake.image
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    name, taken = classes[mistake.label], classes[mistake.predicted]
    return {
        "src": f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}",
        "alt": f"a picture of the class {name} that is taken for {taken}",
        "side": max(_SIDE, min(mistake.image.shape[0], 2 * _SIDE)),
        "caption": f"{name}, taken for {taken} ({100 * mistake.probability:.0f} %)",
    }
