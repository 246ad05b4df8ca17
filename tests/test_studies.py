"""Each shipped study of data that users bring plans on small files in the true format of its source."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalesearch.data.resolve import resolve
from scalesearch.search.plan.design import make_plan
from scalesearch.study.load import load_study

STUDIES = Path(__file__).parent.parent / "studies"
RNG = np.random.default_rng(0)


def photograph(side: int) -> bytes:
    """A JPEG file of coarse noise."""
    noise = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    file = BytesIO()
    noise.resize((side + 8, side)).save(file, "JPEG", quality=50)
    return file.getvalue()


def folders(folder: Path, side: int, sets: tuple[str, ...]) -> None:
    """Sub-folders of two classes in each set."""
    for name in sets:
        for place in range(12):
            path = folder / name / f"n0144{place % 2}" / f"{place}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photograph(side))


def cifar(folder: Path, files: tuple[str, ...], labels: tuple[int, ...], names: dict[str, int]) -> None:
    """The binary version: in each row the labels, then red, green and blue of 32 × 32 pixels."""
    folder.mkdir(parents=True)
    for file in files:
        rows = RNG.integers(0, 256, (12, len(labels) + 3 * 32 * 32), dtype=np.uint8)
        rows[:, : len(labels)] = np.arange(12)[:, None] % 4 % labels
        (folder / file).write_bytes(rows.tobytes())
    for file, count in names.items():
        (folder / file).write_text("".join(f"name{number}\n" for number in range(count)) + "\n")


def cifar10(folder: Path) -> None:
    files = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
    cifar(folder / "data" / "cifar10", files, (10,), {"batches.meta.txt": 10})


def cifar100(folder: Path) -> None:
    names = {"coarse_label_names.txt": 20, "fine_label_names.txt": 100}
    cifar(folder / "data" / "cifar100", ("train.bin", "test.bin"), (20, 100), names)


def my_folder(folder: Path) -> None:
    folders(folder / "pictures", 70, ("",))


def imagenet(folder: Path) -> None:
    folders(folder / "data" / "imagenet", 320, ("train", "val"))


def beans(folder: Path) -> None:
    """A clone of the repository on the hub."""
    import datasets

    features = {
        "image_file_path": datasets.Value("string"),
        "image": datasets.Image(),
        "labels": datasets.ClassLabel(names=["angular_leaf_spot", "bean_rust", "healthy"]),
    }
    for split in ("train", "validation", "test"):
        rows = {
            "image_file_path": [f"{place}.jpg" for place in range(12)],
            "image": [{"bytes": photograph(100), "path": None} for _ in range(12)],
            "labels": [place % 3 for place in range(12)],
        }
        content = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        content.to_parquet(folder / "AI-Lab-Makerere" / "beans" / "data" / f"{split}-00000-of-00001.parquet")


@pytest.mark.parametrize(
    ("name", "write", "classes"),
    [
        ("cifar10", cifar10, 10),
        ("cifar100", cifar100, 100),
        ("my_folder", my_folder, 2),
        ("huggingface", beans, 3),
        ("imagenet_b0", imagenet, 2),
        ("imagenet_resnet50", imagenet, 2),
        ("mobilenet_v2", imagenet, 2),
    ],
)
def test_a_study_plans_on_its_data(
    tmp_path: Path, hugging_face: Any, name: str, write: Callable[[Path], None], classes: int
) -> None:
    del hugging_face  # offline
    write(tmp_path)
    study_file = Path(shutil.copy(STUDIES / f"{name}.toml", tmp_path))
    few = {"data.train": 0, "data.validation": 3, "training.batch_size": 4}
    study = load_study(study_file, few)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few images of uneven classes
        resolved, splits = resolve(study)
    spec = resolved.baseline.spec()
    assert (spec.in_channels, spec.num_classes) == (3, classes)
    assert spec.resolution == (study.baseline.resolution or 224)
    assert len(splits.validation) == 3
    assert len(splits.test) == (12 if name in ("cifar10", "cifar100", "huggingface") else 0)
    plan = make_plan(resolved)
    assert len(plan.trials) >= 15
    assert not plan.unreached
    assert max(trial.candidate.spec.resolution for trial in plan.trials) <= splits.native_resolution
