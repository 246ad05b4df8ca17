"""The file train.toml: what is trained, and whether a folder holds the same training."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError, StudyMismatch
from scalesearch.study.sections import DataSection, RuntimeSection
from scalesearch.study.training import TrainSection
from scalesearch.trained.job import JOB_FILE, Job, check_same, job_of, write_job

JOB = Job(
    name="small φ = 1",
    phi=1.0,
    digest="0" * 64,
    data=DataSection(source="mnist-sample", classes=("a", "b")),
    training=TrainSection(epochs=3, batch_size=8, learning_rate=0.1),
    spec=baseline("mobilenet-v1").spec,
    rule={"tied": None},
)


def test_a_job_comes_back_from_its_json() -> None:
    assert job_of(JOB.to_json()) == JOB


def test_a_folder_takes_the_same_training_alone(tmp_path: Path) -> None:
    assert not check_same(tmp_path, JOB)
    write_job(tmp_path, JOB)
    assert check_same(tmp_path, JOB)
    moved = DataSection(source="npz:elsewhere.npz")
    assert check_same(tmp_path, JOB.model_copy(update={"data": moved, "runtime": RuntimeSection(workers=2)}))

    longer = TrainSection(epochs=4, batch_size=8, learning_rate=0.1)
    wider = baseline("mobilenet-v2").spec
    for changes, message in (
        ({"training": longer}, r"holds another training: `training.epochs` was 3, now 4; choose another --out"),
        ({"digest": "1" * 64}, "`digest` was '000"),
        ({"spec": wider}, r"`spec\.\w+` was "),
    ):
        with pytest.raises(StudyMismatch, match=message):
            check_same(tmp_path, JOB.model_copy(update=changes))

    (tmp_path / JOB_FILE).write_text("epochs = ")
    with pytest.raises(InputError, match=r"train.toml: not valid TOML"):
        check_same(tmp_path, JOB)
