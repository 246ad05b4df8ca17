"""`predict` and `evaluate`: names and probabilities, measures, pictures that cannot be read, bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scalesearch import load_model
from scalesearch.cli.main import main
from tests.cli.tiny import answer, complaint
from tests.models_on_disk import tiny_card, tiny_study, write_model, write_pictures

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    return write_model(path / "tiny", tiny_card(tiny_study(path), classes=CLASSES))


def test_pictures_of_a_folder_have_names_and_probabilities(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    paths = [path for place in ("b", "b/deep", ".") for path in write_pictures(tmp_path / place, 2)]
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    (tmp_path / ".hidden.png").write_text("", encoding="utf-8")
    found = answer(capsys, "predict", str(folder), str(tmp_path), "--top", "3")
    assert (found["model"], found["unreadable"]) == ("tiny φ = 0", [])
    assert {row["image"] for row in found["images"]} == set(map(str, paths))
    for row in found["images"]:
        probabilities = load_model(folder)(row["image"])[0]
        best = probabilities.argsort()[::-1][:3]
        assert [one["class"] for one in row["classes"]] == [CLASSES[label] for label in best]
        assert [one["probability"] for one in row["classes"]] == pytest.approx(probabilities[best].tolist(), rel=1e-5)


def test_pictures_that_cannot_be_read_are_named_and_the_others_go_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    good = write_pictures(tmp_path, 2)
    bad, missing = tmp_path / "00a.png", tmp_path / "gone.png"
    bad.write_bytes(b"\x89PNG no more")
    assert main(["predict", str(folder), str(tmp_path), str(missing), "--top", "2"]) == 2
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == list(map(str, good))
    assert out.count(" %") == 4
    assert [line.split(": ")[1] for line in err.splitlines()] == [str(bad), str(missing)]
    assert main(["predict", str(folder), str(bad), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["images"], [one["image"] for one in document["unreadable"]]) == ([], [str(bad)])
    os.mkfifo(tmp_path / "pipe")  # without a writer: opening it would wait for ever
    assert main(["predict", str(folder), str(tmp_path / "pipe")]) == 2
    assert f"{tmp_path / 'pipe'}: not a file" in capsys.readouterr().err


def test_evaluate_measures_a_split_and_says_which(folder: Path, capsys: pytest.CaptureFixture[str]):
    found = answer(capsys, "evaluate", str(folder), "--split", "validation")
    assert (found["model"], found["source"], found["split"], found["images"]) == (
        "tiny φ = 0", "mnist-sample", "validation", 100,
    )  # fmt: skip
    assert sum(map(sum, found["confusion"])) == 100
    low, high = found["accuracy_interval"]
    assert low < found["accuracy"] < high
    assert main(["evaluate", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tiny φ = 0: 100 images of the test split of mnist-sample\n")
    for measure in ("top-1 accuracy", "top-5", "balanced", "cross-entropy", "expected calibration error"):
        assert measure in out


def test_report_of_a_model_evaluates_it(folder: Path, capsys: pytest.CaptureFixture[str]):
    found = answer(capsys, "report", str(folder))
    assert found["split"] == "test"
    assert "Worst mistakes" in (folder / "report.html").read_text(encoding="utf-8")


def test_bad_input_is_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "no pictures there" in complaint(capsys, "predict", folder, tmp_path)
    assert "no trained model there" in complaint(capsys, "predict", tmp_path, "a.png")
    assert "at least 1" in complaint(capsys, "predict", folder, "a.png", "--top", "0")
    assert "`source` must be" in complaint(capsys, "evaluate", folder, "--data", "pets")
    for name in ("cat", "dog"):
        write_pictures(tmp_path / name, 1)
    assert "must have the model's 10 classes, but has 2" in complaint(
        capsys, "evaluate", folder, "--data", f"folder:{tmp_path}"
    )
