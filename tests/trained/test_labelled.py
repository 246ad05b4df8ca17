"""Which images a model is evaluated on, and how their classes become the model's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalesearch.data.images import Pictures
from scalesearch.data.splits import load_splits
from scalesearch.errors import InputError
from scalesearch.study.sections import Study
from scalesearch.trained.card import ModelCard
from scalesearch.trained.labelled import labelled_images
from tests.models_on_disk import tiny_card, write_pictures


def named(card: ModelCard, *classes: str) -> ModelCard:
    """A card of a network for these classes."""
    spec = dataclasses.replace(card.spec, num_classes=len(classes))
    return card.model_copy(update={"spec": spec, "classes": classes})


def npz(path: Path, labels: Any, channels: int = 1, **sets: Any) -> str:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 6, 6, channels), dtype=np.uint8)
    np.savez(path, images=images, labels=np.array(labels), **sets)
    return f"npz:{path}"


def test_of_its_own_data_the_splits_are_those_of_its_training(card: ModelCard, study: Study):
    splits = load_splits(study.data)
    for split in ("train", "validation", "test"):
        found = labelled_images(card, "mnist-sample", split)
        np.testing.assert_array_equal(found.images.images, getattr(splits, split).images)
        np.testing.assert_array_equal(found.images.labels, getattr(splits, split).labels)
    assert labelled_images(card).split == "test"
    assert (labelled_images(card).source, len(labelled_images(card).images)) == ("mnist-sample", 100)


def test_without_a_test_split_it_is_the_validation_split(study: Study):
    without = tiny_card(study, data={**study.data.model_dump(mode="json"), "test": 0})
    assert labelled_images(without).split == "validation"
    with pytest.raises(InputError, match="--split test: mnist-sample has no such split; it has validation and train"):
        labelled_images(without, None, "test")


def test_data_that_changed_are_noted(study: Study):
    splits = load_splits(study.data)
    same = tiny_card(study, data={**study.data.model_dump(mode="json"), "digest": splits.digest})
    labelled_images(same)
    other = tiny_card(study, data={**study.data.model_dump(mode="json"), "digest": "0" * 64})
    with pytest.warns(UserWarning, match="mnist-sample: has changed since the training"):
        labelled_images(other)


def test_another_source_is_taken_whole_or_by_its_own_sets(card: ModelCard, tmp_path: Path):
    pets = named(card, "cat", "dog")
    for name in ("cat", "dog"):
        write_pictures(tmp_path / "whole" / name, 3)
        for part in ("train", "test"):
            write_pictures(tmp_path / "sets" / part / name, 4 if part == "train" else 2, seed=len(part))
    whole = labelled_images(pets, f"folder:{tmp_path / 'whole'}")
    assert (whole.split, len(whole.images)) == ("train", 6)
    sets = labelled_images(pets, f"folder:{tmp_path / 'sets'}")
    assert (sets.split, len(sets.images)) == ("test", 4)
    assert len(labelled_images(pets, f"folder:{tmp_path / 'sets'}", "train").images) == 8
    with pytest.raises(InputError, match=r"--split validation: .* it has test and train"):
        labelled_images(pets, f"folder:{tmp_path / 'sets'}", "validation")


def test_classes_are_matched_by_name(card: ModelCard, tmp_path: Path):
    source = npz(tmp_path / "set.npz", ["cat", "dog", "dog", "emu"])
    assert labelled_images(named(card, "emu", "cat", "dog"), source).images.labels.tolist() == [1, 2, 2, 0]
    with pytest.raises(InputError, match=r"must have the model's classes 'emu', 'cat' and 'hen', but has 'dog'"):
        labelled_images(named(card, "emu", "cat", "hen"), source)
    with pytest.raises(InputError, match="must have the model's 2 classes, but has 3"):
        labelled_images(named(card, "cat", "dog"), source)
    unnamed = named(card, "emu", "cat", "dog").model_copy(update={"classes": ()})
    assert labelled_images(unnamed, source).images.labels.tolist() == [0, 1, 1, 2]


def test_pictures_get_the_models_channels_and_arrays_must_have_them(card: ModelCard, tmp_path: Path):
    for name in ("cat", "dog"):
        write_pictures(tmp_path / "set" / name, 2)
    pets = named(card, "cat", "dog")
    colour = pets.model_copy(update={"spec": dataclasses.replace(pets.spec, in_channels=3)})
    images = labelled_images(colour, f"folder:{tmp_path / 'set'}").images.images
    assert isinstance(images, Pictures)
    assert images.channels == 3
    with pytest.raises(InputError, match="images must have the model's 3 channels, but have 1"):
        labelled_images(colour, npz(tmp_path / "set.npz", ["cat", "dog"]))


def test_a_card_without_data_asks_for_some(card: ModelCard):
    with pytest.raises(InputError, match="does not say which data it was trained on"):
        labelled_images(card.model_copy(update={"data": {}}))
    with pytest.raises(InputError, match="`source` must be mnist-sample, "):
        labelled_images(card, "pets")
