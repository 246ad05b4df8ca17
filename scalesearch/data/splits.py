"""The data of a study: a source cut into training, validation and test splits, always in the same way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from scalesearch.data.sources import DataError, Source, Split, read_source
from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import DataSection

__all__ = ["DataError", "Split", "Splits", "check_fits", "load_splits", "split_source"]


@dataclass(frozen=True, slots=True)
class Splits:
    """Three disjoint splits. `digest` is a SHA-256 over their contents and order: same digest, same experiment."""

    train: Split
    validation: Split
    test: Split
    num_classes: int
    native_resolution: int
    in_channels: int
    source: str
    digest: str


def load_splits(section: DataSection) -> Splits:
    """The splits that a study asks for. Raises `DataError` if the source cannot be read or has too few images."""
    return split_source(read_source(section.source), section)


def split_source(source: Source, section: DataSection) -> Splits:
    """`source` cut by a permutation of its training images: test first, then validation, then training.

    So more training images never change the other two. If the source has a validation or test set, that set is used
    instead, cut to size by a permutation of it.

    Args:
        source: all images of the source.
        section: the sizes and the seed of the permutations.

    Raises:
        DataError: a split asks for more images than there are, none are left to train on, or shapes differ.
    """
    sets = {"train": source.train, "validation": source.validation, "test": source.test}
    shapes = {name: split.images.shape[1:] for name, split in sets.items() if split is not None}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{section.source}: all images must have one shape, but got {shapes}")

    # Test and validation: the source's set, or a part of its training images.
    pool = _order(len(source.train), section.split_seed)
    parts: dict[str, Split] = {}
    for name, wanted in (("test", section.test), ("validation", section.validation)):
        split = sets[name]
        if split is None:
            parts[name] = _take(source.train, pool[:wanted], wanted, len(pool), section.source, name)
            pool = pool[wanted:]
        else:
            order = _order(len(split), section.split_seed)
            parts[name] = _take(split, order[: wanted or len(order)], wanted, len(split), section.source, name)

    # Training: what is left, or as many of it as the study asks for.
    if not len(pool):
        raise DataError(
            f"{section.source}: training needs images, but validation and test take all {len(source.train):,}"
        )
    chosen = pool[: section.train or len(pool)]
    parts["train"] = _take(source.train, chosen, section.train, len(pool), section.source, "train")

    _, height, _, channels = source.train.images.shape
    present = [split for split in sets.values() if split is not None]
    return Splits(
        **parts,
        num_classes=1 + max(int(split.labels.max()) for split in present),
        native_resolution=height,
        in_channels=channels,
        source=section.source,
        digest=_digest(parts),
    )


def check_fits(spec: ArchitectureSpec, splits: Splits, batch_size: int) -> None:
    """Raises `InputError` if a network does not match the data, or a batch takes more images than there are."""
    for key, given, required in (
        ("in_channels", spec.in_channels, splits.in_channels),
        ("num_classes", spec.num_classes, splits.num_classes),
    ):
        if given != required:
            raise InputError(
                f"the baseline's `{key}` must be that of the data {splits.source}, {required}, but got {given}: "
                f"set {key} = {required} in the study's [baseline]"
            )
    images = len(splits.train)
    if batch_size > images:
        raise InputError(
            f"`training.batch_size` must be at most the number of training images, {images:,}, but got {batch_size:,}"
        )


def _order(count: int, seed: int) -> Int[np.ndarray, " n"]:
    """A permutation that stays the same in every release of numpy: raw bits of PCG64 are frozen (NEP 19)."""
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")


def _take(split: Split, index: Int[np.ndarray, " n"], wanted: int, available: int, source: str, name: str) -> Split:
    if wanted > available:
        raise DataError(f"{source}: `{name}` asks for {wanted:,} images, but {available:,} are left for it")
    return Split(split.images[index], split.labels[index])


def _digest(parts: dict[str, Split]) -> str:
    digest = hashlib.sha256()
    for name in ("train", "validation", "test"):
        images, labels = parts[name].images, parts[name].labels
        digest.update(f"{name} {images.shape}".encode())
        digest.update(np.ascontiguousarray(images).data)
        digest.update(labels.astype("<i4").tobytes())
    return digest.hexdigest()
