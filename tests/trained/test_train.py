"""The training of a network of a family: its folder, and that no end of a process changes what it comes to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scalesearch
from scalesearch.data.splits import load_splits
from scalesearch.data.statistics import channel_statistics
from scalesearch.errors import InputError, StudyMismatch
from scalesearch.export.rule_json import rule_text
from scalesearch.results.save import study_text
from scalesearch.runtime import interrupts
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.rule import ScalingRule
from scalesearch.scaling.simplex import Shares
from scalesearch.study.load import parse_study
from scalesearch.trained.checkpoint import FOLDER
from scalesearch.trained.events import EpochTrained, Event, TrainingPlanned, TrainingStarted
from scalesearch.trained.result import TrainedModel
from tests.cli.tiny import ROOT, TINY, answer, complaint

EPOCHS = 8
FILES = {"model.json", "report.html", "weights.safetensors", "curves.csv", "train.toml", FOLDER}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as `train` reads it: a rule and a study."""
    folder = tmp_path_factory.mktemp("run")
    study = parse_study(tomllib.loads(TINY), "the tiny study")
    coefficients, shares = coefficients_of(Shares(0.0, 1.0, 0.0), study.budget), Shares(0.0, 1.0, 0.0)
    rule = ScalingRule(
        budget=study.budget,
        alpha=coefficients.alpha,
        beta=coefficients.beta,
        gamma=coefficients.gamma,
        shares=shares,
        intervals=None,
        resolved=True,
        tied=None,
        metric=study.metric,
        baseline=study.resolved_baseline(),
        data=study.data.model_dump(mode="json"),
        training=study.training.model_dump(mode="json"),
        seeds=study.seeds,
        provenance={},
    )
    (folder / "study.toml").write_text(study_text(study), encoding="utf-8")
    (folder / "coefficients.json").write_text(rule_text(rule), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def undisturbed(run: Path) -> tuple[TrainedModel, list[Event]]:
    events: list[Event] = []
    return scalesearch.train(run, 1, out=run / "undisturbed", events=events.append, epochs=EPOCHS), events


def children() -> list[int]:
    """Processes that this one has started."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text(encoding="utf-8").split()]


def curves(trained: TrainedModel) -> list[tuple[float, ...]]:
    return [(row.epoch, row.learning_rate, row.train_loss, row.val_loss, row.val_accuracy) for row in trained.curves]


@pytest.mark.slow
def test_a_folder_holds_what_the_next_step_needs(run: Path, undisturbed: tuple[TrainedModel, list[Event]]) -> None:
    trained, events = undisturbed
    names = {path.name for path in trained.folder.iterdir() if not path.name.startswith((".lock", "events."))}
    assert names == FILES
    assert [type(event) for event in events[:2]] == [TrainingPlanned, TrainingStarted]
    assert [event.row for event in events if isinstance(event, EpochTrained)] == list(trained.curves)
    assert len(trained.curves) == EPOCHS
    assert trained.finished

    # The card tells how images become the input, and the weights give the best epoch's accuracy.
    study = parse_study(tomllib.loads(TINY), "the tiny study")
    splits = load_splits(study.data)
    how = trained.card.preprocessing
    assert how is not None
    np.testing.assert_allclose((how.mean, how.std), channel_statistics(splits.train.images), rtol=1e-6)
    assert trained.card.data["digest"] == splits.digest
    assert (trained.card.rule or {})["budget"] == 2.0
    model = scalesearch.load_model(trained.folder)
    found = model(splits.validation.images).argmax(1)
    assert np.mean(found == splits.validation.labels) == pytest.approx(trained.best.val_accuracy, abs=1e-6)
    del run


@pytest.mark.slow
def test_an_interrupt_and_two_kills_change_no_bit(run: Path, undisturbed: tuple[TrainedModel, list[Event]]) -> None:
    folder, killed, said = run / "disturbed", list[int](), list[str]()

    def interrupt(event: Event) -> None:
        if isinstance(event, EpochTrained):
            interrupts.request()

    def kill(event: Event) -> None:
        if isinstance(event, str):
            said.append(event)
        if isinstance(event, EpochTrained) and len(killed) < 2:
            worker = max(children())
            if worker not in killed:
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)

    with pytest.raises(KeyboardInterrupt):
        scalesearch.train(run, 1, out=folder, events=interrupt, epochs=EPOCHS)
    trained = scalesearch.train(run, 1, out=folder, events=kill, epochs=EPOCHS)
    assert len(said) == len(killed) == 2
    reason = "a worker ended early with exit code -9: killed: the system may lack memory"
    assert said == [f"{reason}; it is started again and goes on from its last checkpoint"] * 2
    before = undisturbed[0]
    assert curves(trained) == curves(before)
    weights = [(each.folder / "weights.safetensors").read_bytes() for each in (before, trained)]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_finished_training_answers_at_once_and_takes_no_other_recipe(
    run: Path, undisturbed: tuple[TrainedModel, list[Event]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = undisturbed[0].folder
    arguments = ("train", str(run), "--phi", "1", "--out", str(folder), "--epochs")
    document = answer(capsys, *arguments, str(EPOCHS))
    assert document["best"]["epoch"] == undisturbed[0].best.epoch
    assert document == json.loads(json.dumps(undisturbed[0].to_json()))
    line = complaint(capsys, *arguments, "9", code=StudyMismatch.exit_code)
    assert f"{folder} holds another training: `training.epochs` was {EPOCHS}, now 9 and " in line

    # Without jax in the process of the user.
    code = f"""
import sys, scalesearch
trained = scalesearch.train({str(run)!r}, 1, out={str(folder)!r}, epochs={EPOCHS})
print(trained.finished, "jax" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": "many"}, r"^\[train\]: `epochs` must be a whole number"),
        ({"epoch": 3}, r"^\[train\]: .*`epoch`"),
        ({"batch_size": 201}, r"`training.batch_size` must be at most the number of training images, 200"),
        ({"phi": 1000.0}, r"^the network: `phi` must be at most"),
        ({"max_resolution": 5}, r"^the network: `max_resolution` must be at least the baseline's resolution, 6"),
        ({"data": "npz:nowhere.npz"}, "nowhere.npz"),
    ],
)
def test_bad_input_leaves_no_folder(run: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"phi": 1.0, **changes}
    with pytest.raises(InputError, match=message):
        scalesearch.train(run, out=tmp_path / "model", **arguments)
    assert not (tmp_path / "model").exists()


def test_files_that_no_training_wrote_are_not_overwritten(run: Path) -> None:
    with pytest.raises(InputError, match="holds study.toml, which no `train` has written; choose another --out"):
        scalesearch.train(run, 1, out=run, events=lambda event: None)
