"""The labelled images that a model is evaluated on: a split of a data source, with the model's classes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from scalesearch.data.images import Pictures, Source, Split
from scalesearch.data.sources import read_source
from scalesearch.data.splits import Splits, load_splits
from scalesearch.errors import InputError
from scalesearch.runtime.text import enumerated
from scalesearch.study.documents import read
from scalesearch.study.load import located_source
from scalesearch.study.sections import DataSection
from scalesearch.trained.card import ModelCard

SplitName = Literal["test", "validation", "train"]
SPLITS: tuple[SplitName, ...] = ("test", "validation", "train")


class Labelled(NamedTuple):
    """Images whose labels are places in the model's classes, which split of which source they are, and its notes."""

    images: Split
    split: SplitName
    source: str
    notes: tuple[str, ...] = ()


def labelled_images(card: ModelCard, source: str | None = None, split: SplitName | None = None) -> Labelled:
    """A split of `source` to evaluate a model on.

    Of the data that the model was trained on, splits are those of its training: `validation` chose its weights, and
    only `test` is new to it. Of any other source, they are its own sets of these names.

    Args:
        card: the model.
        source: a data source, such as `folder:DIR`; None for the data of the model's training.
        split: which split; None for the test split, or if there is none the validation split, or if that is missing
            too all images. Never the training split of the model's own training.

    Raises:
        InputError: the source cannot be read, lacks the split, or has other classes or channels.
    """
    own = data_of(card)
    place = None if source is None else located_source(source, (Path.cwd(),))
    if own is not None and place in (None, own.source):
        return labelled_split(card, load_splits(own), split)
    if place is None:
        raise InputError(f"{card.name}: does not say which data it was trained on: name data to evaluate it on")
    fit = card.preprocessing.fit if card.preprocessing else "crop"
    found = read_source(_section({"source": place, "fit": fit}, "data"))
    sets: dict[SplitName, Split | None] = {"test": found.test, "validation": found.validation, "train": found.train}
    name = _choose(sets, split, place)
    chosen = sets[name]
    assert chosen is not None
    return Labelled(_fitting(card, chosen, found.classes, _count(found), place), name, place, found.notes)


def labelled_split(card: ModelCard, splits: Splits, split: SplitName | None = None) -> Labelled:
    """A split of the data that a model was trained on; None for the test split, or without one the validation split.

    Warns if the data have changed since. Raises `InputError` if there is no such split, or classes have changed.
    """
    trained_on = card.data.get("digest")
    if trained_on is not None and trained_on not in (splits.digest, splits.test_digest):
        warnings.warn(
            f"{splits.source}: has changed since the training: its test and validation splits may hold images that "
            "the model was trained on",
            stacklevel=2,
        )
    sets: dict[SplitName, Split | None] = {
        name: part if len(part := getattr(splits, name)) else None for name in SPLITS
    }
    name = _choose(sets, split, splits.source)
    chosen = sets[name]
    assert chosen is not None
    fitting = _fitting(card, chosen, splits.classes, splits.num_classes, splits.source)
    return Labelled(fitting, name, splits.source, splits.notes)


def data_of(card: ModelCard) -> DataSection | None:
    """The data section of a model's training; None if its card has none."""
    known = {key: value for key, value in card.data.items() if key in DataSection.model_fields}
    return _section(known, f"{card.name}: `data`") if "source" in known else None


def _section(values: Mapping[str, Any], where: str) -> DataSection:
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return read(DataSection, tuples, lambda section: section, where)


def _choose(sets: dict[SplitName, Split | None], split: SplitName | None, source: str) -> SplitName:
    there = [name for name in SPLITS if sets[name] is not None]
    if split is None:
        return there[0]
    if split not in there:
        raise InputError(f"--split {split}: {source} has no such split; it has {enumerated(there)}")
    return split


def _fitting(card: ModelCard, split: Split, classes: tuple[str, ...], count: int, source: str) -> Split:
    """The images in the model's channels and fit, labels as places in its classes."""
    required = card.spec.num_classes
    if count != required:
        raise InputError(f"{source}: must have the model's {required} classes, but has {count}")
    labels = split.labels
    if card.classes and classes and classes != card.classes:
        unknown = [repr(name) for name in classes if name not in card.classes]
        if unknown:
            raise InputError(
                f"{source}: must have the model's classes {enumerated([repr(name) for name in card.classes], 4)}, but "
                f"has {enumerated(unknown, 4)}"
            )
        labels = np.array([card.classes.index(name) for name in classes], np.int32)[labels]
    images, channels = split.images, card.spec.in_channels
    if isinstance(images, Pictures):
        fit = card.preprocessing.fit if card.preprocessing else images.fit
        changed: Pictures = dataclasses.replace(images, channels=channels, fit=fit)  # type: ignore[type-var]
        return Split(changed, labels)
    if images.shape[-1] != channels:
        raise InputError(f"{source}: images must have the model's {channels} channels, but have {images.shape[-1]}")
    return Split(images, labels)


def _count(source: Source) -> int:
    """Classes of a source, named or not."""
    return len(source.classes) or 1 + max(int(split.labels.max()) for split in source.splits)
