"""What a study leaves to its data, what is refused and noted about them, and the usual study of a source."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalesearch.data.images import DataError
from scalesearch.data.resolve import resolve
from scalesearch.data.usual import usual_study
from scalesearch.errors import InputError
from scalesearch.study.sections import Study

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (90, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(90) % 3


def source(folder: Path, images: np.ndarray = COLOUR, labels: np.ndarray = LABELS, **more: np.ndarray) -> str:
    path = folder / "set.npz"
    np.savez(path, train_images=images, train_labels=labels, **more)
    return f"npz:{path}"


def usual(place: str, **overrides: Any) -> Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return usual_study(place, {key.replace("__", "."): value for key, value in overrides.items()})


FEW = "can hardly tell candidates apart"
"""What is said of validation splits as small as those here."""


def notes(study: Study) -> tuple[Study, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resolved, _ = resolve(study)
    return resolved, [text for each in caught if not (text := str(each.message)).endswith(FEW)]


def test_a_usual_study_suits_its_data_and_says_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no study file: mbconv-small at 11 px, 20 epochs of batches of 16, learning"):
        study = usual_study(source(tmp_path), {})
    assert (study.name, study.data.train, study.data.validation) == ("set", 72, 18)
    resolved, said = notes(study)
    spec = resolved.baseline.spec()
    assert (spec.in_channels, spec.num_classes, spec.resolution) == (3, 3, 11)
    assert not said


@pytest.mark.parametrize("count", [2, 5, 20])
def test_a_usual_study_fits_few_images(tmp_path: Path, count: int) -> None:
    study = usual(source(tmp_path, COLOUR[: 3 * count], LABELS[: 3 * count]))
    assert study.training.batch_size <= study.data.train
    notes(study)


def test_too_few_validation_images_are_noted(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=rf"set\.npz: 18 validation images {FEW}"):
        resolve(usual(source(tmp_path)))


def test_a_flag_wins_over_the_usual_value(tmp_path: Path) -> None:
    study = usual(source(tmp_path), training__epochs=1, budget=4.0, seeds=5, data__validation=30)
    assert (study.training.epochs, study.training.warmup_epochs, study.seeds) == (1, 0.05, 5)
    assert study.baseline.resolution == 8  # 16 px over the square root of the budget
    assert (study.data.train, study.data.validation) == (60, 30)


@pytest.mark.parametrize("name", ["resnet-18", "efficientnet-b0"])
def test_a_published_baseline_follows_the_data_and_says_so(tmp_path: Path, name: str) -> None:
    study = usual(source(tmp_path), baseline={"name": name})
    resolved, said = notes(study)
    spec = resolved.resolved_baseline().spec
    assert (spec.in_channels, spec.num_classes, spec.resolution) == (3, 3, 11)
    assert said == [f"{name} gets 3 classes and 11 px, as the images of {study.data.source} have"]
    set_by_hand = usual(source(tmp_path), baseline={"name": name, "resolution": 14})
    assert notes(set_by_hand)[0].resolved_baseline().spec.resolution == 14


def test_what_a_study_sets_must_be_that_of_the_data(tmp_path: Path) -> None:
    study = usual(source(tmp_path), baseline__num_classes=4)
    with pytest.raises(InputError, match=r"`num_classes` must be that of the data .*set\.npz, 3, but got 4: .* it out"):
        resolve(study)


def test_the_names_of_the_classes_are_kept_and_change_no_fingerprint(tmp_path: Path) -> None:
    place = source(tmp_path, labels=np.array(["cat", "dog", "eel"])[LABELS])
    resolved, _ = notes(usual(place))
    assert resolved.data.classes == ("cat", "dog", "eel")
    renamed, _ = notes(usual(place, data__classes=("a", "b", "c")))
    assert renamed.data.classes == ("a", "b", "c")
    assert renamed.identity() == resolved.identity()
    with pytest.raises(InputError, match="must name the 3 classes of .*, but names 1"):
        resolve(usual(place, data__classes=("a",)))


def test_a_network_without_its_data_says_what_is_open(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`baseline\.in_channels` follows the data; set it"):
        usual(source(tmp_path)).resolved_baseline()


BLANK = np.full_like(COLOUR, 7)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (COLOUR, np.full(90, 7), "nothing can be learned: all 72 training images are of class '7'"),
        (COLOUR[:1].repeat(90, 0), LABELS, "nothing can be learned: all 72 training images are equal"),
        (COLOUR, np.arange(90), "nothing can be judged: training has no image of any class that validation has"),
        (BLANK, LABELS, "nothing can be learned: all training images have the same one grey level"),
    ],
)
def test_data_without_signal_are_refused(tmp_path: Path, images: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        resolve(usual(source(tmp_path, images, labels)))


def test_duplicates_uneven_classes_and_classes_without_images_are_noted(tmp_path: Path) -> None:
    labels = np.where(np.arange(90) < 70, 0, np.where(np.arange(90) < 89, 1, 2))
    place = source(tmp_path, labels=labels, test_images=COLOUR[:5], test_labels=labels[:5])
    _, said = notes(usual(place))
    assert [line.removeprefix(f"{place}: ") for line in said] == [
        "classes are uneven: 70 images of 0, 1 of 2; splits are stratified",
        "validation has no image of 1 class: 2",
        "test has no image of 2 classes: 1 and 2",
        "3 test images of 5 are in the training split as well",
    ]
