"""Data without signal: what could not be learned from is refused, what weakens a comparison is noted."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Int, UInt8

from scalesearch.data.images import DataError, Images, Pictures
from scalesearch.data.pictures import decoded
from scalesearch.data.splits import Splits
from scalesearch.runtime.text import enumerated, plural

_LOOKED_AT = 64
"""So many pictures are decoded, at `_SIDE` pixels, to see whether all of them are blank."""
_SIDE = 16
LEAST_VALIDATION = 50
"""Fewer validation images are noted."""
_NAMED = 4
"""So many classes are named in a note."""


def check_signal(splits: Splits) -> tuple[str, ...]:
    """What is odd about the splits, as sentences: few images, classes without any, images that two splits share.

    Raises:
        DataError: nothing could be learned or judged: one class, one grey level, equal images, no class in common.
    """
    train = splits.train
    counts = np.bincount(train.labels, minlength=splits.num_classes)
    if (counts > 0).sum() < 2:
        (only,) = np.flatnonzero(counts)
        raise DataError(
            f"{splits.source}: nothing can be learned: all {plural(len(train), 'training image')} are of class "
            f"{_name(splits, int(only))}"
        )
    if _is_blank(train.images):
        raise DataError(f"{splits.source}: nothing can be learned: all training images have the same one grey level")
    hashes = image_hashes(train.images)
    if len(train) > 1 and len(np.unique(hashes, axis=0)) == 1:
        raise DataError(f"{splits.source}: nothing can be learned: all {len(train):,} training images are equal")
    if not counts[splits.validation.labels].any():
        raise DataError(
            f"{splits.source}: nothing can be judged: training has no image of any class that validation has"
        )
    return (*_few(splits), *_missing(splits, counts), *_duplicates(splits, hashes))


def image_hashes(images: Images) -> UInt8[np.ndarray, "n 16"]:
    """A digest of each image's content."""
    if isinstance(images, Pictures):
        return images.hashes
    digests = b"".join(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images)
    return np.frombuffer(digests, np.uint8).reshape(len(images), 16)


def _is_blank(images: Images) -> bool:
    """Whether there is only one grey level; of pictures a sample is looked at."""
    if isinstance(images, Pictures):
        places = np.unique(np.linspace(0, len(images) - 1, min(len(images), _LOOKED_AT)).astype(int))
        sample = np.stack([decoded(images.open(int(place)), images.channels, _SIDE, images.fit) for place in places])
        return bool(sample.max() == sample.min())
    return bool(images.max() == images.min())


def _name(splits: Splits, label: int) -> str:
    return repr(splits.classes[label]) if splits.classes else str(label)


def _few(splits: Splits) -> tuple[str, ...]:
    """A validation split that is too small to compare candidates on."""
    size = len(splits.validation)
    if size >= max(LEAST_VALIDATION, splits.num_classes):
        return ()
    return (f"{plural(size, 'validation image')} can hardly tell candidates apart",)


def _missing(splits: Splits, counts: Int[np.ndarray, " k"]) -> tuple[str, ...]:
    """Classes that a split has no images of."""
    notes = []
    validation = np.bincount(splits.validation.labels, minlength=splits.num_classes)
    test = np.bincount(splits.test.labels, minlength=splits.num_classes) if len(splits.test) else np.ones(1)
    for split, images in (("training", counts), ("validation", validation), ("test", test)):
        absent = [_name(splits, int(label)) for label in np.flatnonzero(images == 0)]
        if absent:
            notes.append(
                f"{split} has no image of {plural(len(absent), 'class', 'classes')}: {enumerated(absent, _NAMED)}"
            )
    return tuple(notes)


def _duplicates(splits: Splits, train: UInt8[np.ndarray, "n 16"]) -> tuple[str, ...]:
    """Images that training and another split share."""
    notes = []
    for name, split in (("validation", splits.validation), ("test", splits.test)):
        if len(split):
            shared = int(np.isin(_keys(image_hashes(split.images)), _keys(train)).sum())
            if shared:
                notes.append(f"{plural(shared, f'{name} image')} of {len(split):,} are in the training split as well")
    return tuple(notes)


def _keys(hashes: UInt8[np.ndarray, "n 16"]) -> np.ndarray:
    """One comparable value an image; eight of the sixteen bytes are enough."""
    return np.ascontiguousarray(hashes[:, :8]).view(np.uint64)[:, 0]
