"""The data of a study: a source cut into training, validation and test splits, always in the same way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from scalesearch.data.images import DataError, Images, Pictures, Source, Split
from scalesearch.data.sources import read_source
from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import DataSection

__all__ = ["DataError", "Split", "Splits", "check_fits", "load_splits", "native_resolution", "split_source"]

USUAL_VALIDATION = 0.2
"""The share of the training images that is set aside for validation where a study gives no size."""


@dataclass(frozen=True, slots=True)
class Splits:
    """Three disjoint splits.

    Attributes:
        train: the images to train on.
        validation: the images to compare candidates on.
        test: the images that only `validate` reads.
        num_classes: classes of the source, whether or not a split has images of each.
        native_resolution: side of the square images; the median where each picture has a size of its own.
        in_channels: 1 for grey, 3 for colour.
        source: the source's name.
        digest: a SHA-256 over the contents and order of the splits: same digest, same experiment. A test set from
            elsewhere is no part of it, since no search sees it.
        test_digest: the same of splits and such a test set; `digest` if there is none.
        classes: the name of each class; empty if the source names none.
        notes: what was converted, as sentences for the user.
        uneven: whether the source's training images are unevenly spread over the classes, see `is_uneven`.
    """

    train: Split
    validation: Split
    test: Split
    num_classes: int
    native_resolution: int
    in_channels: int
    source: str
    digest: str
    test_digest: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    uneven: bool = False


def load_splits(section: DataSection) -> Splits:
    """The splits that a study asks for. Raises `DataError` if the source cannot be read or has too few images."""
    splits = split_source(read_source(section), section)
    if section.test_source is None:
        return splits
    test = _test_split(section, splits)
    digest = hashlib.sha256(f"{splits.digest} {_digest({'test': test})}".encode()).hexdigest()
    return replace(splits, test=test, test_digest=digest)


def _test_split(section: DataSection, splits: Splits) -> Split:
    """The test set of `test_source`, or all of its images if it has none, with the labels of `splits`.

    Its classes are those of the same names. Labels without names are named by their numbers.
    """
    assert section.test_source is not None
    source = read_source(section.model_copy(update={"source": section.test_source}))
    split = source.test or source.train
    classes = {name: place for place, name in enumerate(splits.classes or map(str, range(splits.num_classes)))}
    given = source.classes or tuple(map(str, range(1 + int(split.labels.max()))))
    for name in given:
        if name not in classes:
            raise DataError(
                f"{section.test_source}: its classes must be among those of {splits.source}, but {name!r} is not"
            )
    shape, required = _shape(split.images), _shape(splits.train.images)
    if shape != required:
        raise DataError(
            f"{section.test_source}: test images must have the shape {required} of {splits.source}, but have {shape}"
        )
    return Split(split.images, np.array([classes[name] for name in given], np.int32)[split.labels])


def split_source(source: Source, section: DataSection) -> Splits:
    """`source` cut by a permutation of its training images: test first, then validation, then training.

    So more training images never change the other two. If the source has a validation or test set, that set is used
    instead, cut to size by a permutation of it. Where classes are uneven, each part has its share of every class.

    Args:
        source: all images of the source.
        section: the sizes and the seed of the permutations.

    Raises:
        DataError: a split asks for more images than there are, none are left to train on, or shapes differ.
    """
    sets = {"train": source.train, "validation": source.validation, "test": source.test}
    shapes = {name: _shape(split.images) for name, split in sets.items() if split is not None}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{section.source}: all images must have one shape, but got {shapes}")

    # Test and validation: the source's set, or a part of its training images.
    pool = _order(source.train, section.split_seed)
    parts: dict[str, Split] = {}
    usual = {"test": 0, "validation": max(1, round(len(pool) * USUAL_VALIDATION))}
    for name, wanted in (("test", section.test), ("validation", section.validation)):
        split = sets[name]
        if split is None:
            size = wanted or usual[name]
            parts[name] = _take(source.train, pool[:size], size, len(pool), section.source, name)
            pool = pool[size:]
        else:
            order = _order(split, section.split_seed)
            parts[name] = _take(split, order[: wanted or len(order)], wanted, len(split), section.source, name)

    # Training: what is left, or as many of it as the study asks for.
    if not len(pool):
        raise DataError(
            f"{section.source}: training needs images, but validation and test take all {len(source.train):,}"
        )
    chosen = pool[: section.train or len(pool)]
    parts["train"] = _take(source.train, chosen, section.train, len(pool), section.source, "train")

    digest = _digest(parts)
    return Splits(
        **parts,
        num_classes=len(source.classes) or 1 + max(int(split.labels.max()) for split in source.splits),
        native_resolution=native_resolution(source.train.images),
        in_channels=_shape(source.train.images)[-1],
        source=section.source,
        digest=digest,
        test_digest=digest,
        classes=source.classes,
        notes=(*source.notes, *_uneven(source)),
        uneven=is_uneven(np.bincount(source.train.labels)),
    )


def native_resolution(images: Images) -> int:
    """The side of square images; of pictures that are made square, the median of their sides."""
    if isinstance(images, Pictures):
        sides = images.sizes.max(1) if images.fit == "pad" else images.sizes.min(1)
        return int(np.median(sides))
    return int(images.shape[1])


def check_fits(spec: ArchitectureSpec, splits: Splits, batch_size: int) -> None:
    """Raises `InputError` if a network does not match the data, or a batch takes more images than there are."""
    for key, given, required in (
        ("in_channels", spec.in_channels, splits.in_channels),
        ("num_classes", spec.num_classes, splits.num_classes),
    ):
        if given != required:
            raise InputError(
                f"the baseline's `{key}` must be that of the data {splits.source}, {required}, but got {given}: "
                f"set {key} = {required} in the study's [baseline], or leave it out"
            )
    images = len(splits.train)
    if batch_size > images:
        raise InputError(
            f"`training.batch_size` must be at most the number of training images, {images:,}, but got {batch_size:,}"
        )


def _shape(images: Images) -> tuple[int, ...]:
    """What all images have in common: their shape, or that of pictures, (channels,)."""
    return (images.channels,) if isinstance(images, Pictures) else images.shape[1:]


def _order(split: Split, seed: int) -> Int[np.ndarray, " n"]:
    """A permutation that stays the same in every release of numpy: raw bits of PCG64 are frozen (NEP 19).

    Where classes are uneven, every beginning of it holds each class in proportion.
    """
    order = np.argsort(np.random.PCG64(seed).random_raw(len(split)), kind="stable")
    counts = np.bincount(split.labels)
    if not is_uneven(counts):
        return order
    labels = split.labels[order]
    by_class = np.argsort(labels, kind="stable")
    numbers, places = np.empty(len(order), np.int64), np.arange(len(order))
    numbers[by_class] = places - np.repeat(np.cumsum(counts) - counts, counts)  # of each image within its class
    return order[np.argsort((numbers + 0.5) / counts[labels], kind="stable")]


def is_uneven(counts: Int[np.ndarray, " k"]) -> bool:
    """Whether the largest class has more than twice the images of the smallest that has any."""
    return bool(counts.max() > 2 * counts[counts > 0].min())


def _uneven(source: Source) -> tuple[str, ...]:
    """A note on uneven classes."""
    counts = np.bincount(source.train.labels)
    if not is_uneven(counts):
        return ()
    names = source.classes or tuple(map(str, range(len(counts))))
    most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
    note = (
        f"classes are uneven: {counts[most]:,} images of {names[most]}, {counts[least]:,} of {names[least]}; "
        "splits are stratified"
    )
    return (note,)


def _take(split: Split, index: Int[np.ndarray, " n"], wanted: int, available: int, source: str, name: str) -> Split:
    if wanted > available:
        raise DataError(f"{source}: `{name}` asks for {wanted:,} images, but {available:,} are left for it")
    return split.take(index)


def _digest(parts: dict[str, Split]) -> str:
    digest = hashlib.sha256()
    for name in (name for name in ("train", "validation", "test") if name in parts):
        images, labels = parts[name].images, parts[name].labels
        if isinstance(images, Pictures):
            digest.update(f"{name} {len(images)} pictures {images.channels} {images.fit}".encode())
            digest.update(np.ascontiguousarray(images.hashes).data)
        else:
            digest.update(f"{name} {images.shape}".encode())
            digest.update(np.ascontiguousarray(images).data)
        digest.update(labels.astype("<i4").tobytes())
    return digest.hexdigest()
