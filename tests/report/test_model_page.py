"""The report of a trained model: complete, self-contained, escaped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from scalesearch.errors import InputError
from scalesearch.report.figures import model as figures
from scalesearch.report.model_page import curves_of, render
from scalesearch.trained.evaluation import Evaluation, Mistake
from tests.models_on_disk import CURVES, tiny_card, tiny_study
from tests.report.test_html import HOSTILE, parsed

CLASSES = ("cat", HOSTILE, "dog")


def planted(classes: tuple[str, ...] = CLASSES) -> Evaluation:
    """An evaluation of ten images of each class, all right but two of the first class taken for the second."""
    confusion = np.diag(np.full(len(classes), 10))
    confusion[0, :2] = 8, 2
    pictures = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 1), dtype=np.uint8)
    mistakes = tuple(Mistake(picture, 0, 1, 0.9) for picture in pictures)
    images = int(confusion.sum())
    accuracy = confusion.trace() / images
    return Evaluation("pets", "test", images, classes, accuracy, (0.7, 0.99), None, 0.9, 0.3, 0.02, confusion, mistakes)


def write_page(path: Path, classes: tuple[str, ...] = CLASSES, curves: str = CURVES) -> Path:
    """The page of a planted evaluation, with curves if there are any."""
    if curves:
        (path / "curves.csv").write_text(curves, encoding="utf-8")
    card = tiny_card(tiny_study(path), name=HOSTILE)
    report = path / "report.html"
    report.write_text(render(card, curves_of(path), planted(classes)), encoding="utf-8")
    return report


def test_it_says_all_that_it_should(tmp_path: Path):
    page = parsed(write_page(tmp_path))
    text = "".join(page.text)
    assert "Of the 30 images of the test split of pets, 93.3 % are classified right" in text
    assert "(95 % interval 70.0 to 99.0 %)." in text
    assert "Dashed: epoch 2, the best one, whose weights the model has." in text
    assert text.count(f"cat, taken for {HOSTILE} (90 %)") == 2
    assert f"{HOSTILE} (2)" in text  # what most of its images are taken for
    for fact in ("1-1 × 4-8 at 6 px", "source mnist-sample", "epochs 2", "resolution 6"):
        assert fact in text
    assert [attributes["id"] for tag, attributes in page.tags if tag == "h2"] == [
        "training", "confusion", "classes", "mistakes", "provenance",
    ]  # fmt: skip


def test_nothing_is_loaded_and_names_stay_text(tmp_path: Path):
    path = write_page(tmp_path)
    page = parsed(path)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 2
    assert all(source is not None and source.startswith("data:image/png;base64,") for source in sources)
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base"}
    assert '<script>document.title="owned"' not in path.read_text(encoding="utf-8")


def test_many_classes_have_no_matrix_and_a_model_may_have_no_curves(tmp_path: Path):
    text = write_page(tmp_path, tuple(f"class {place}" for place in range(80)), curves="").read_text(encoding="utf-8")
    assert re.findall(r'class="plot" id="figure-(\w+)"', text) == []
    assert len(text) < 200_000  # no plotly
    assert "Dashed" not in text
    assert "class 79" in text


def test_long_names_of_classes_stay_apart_in_the_matrix():
    names = (*(f"a very long name of class {place}" for place in "ab"), "<b>c</b>")
    heatmap = figures.confusion(planted(names)).data[0]
    assert len({*heatmap.x}) == 3
    assert heatmap.x[2] == heatmap.y[2] == "2 &lt;b&gt;c&lt;/b&gt;"


def test_curves_of_another_file_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"curves\.csv: not the curves of a training"):
        write_page(tmp_path, curves="epoch,train_loss,val_loss\n1,2,3\n")
