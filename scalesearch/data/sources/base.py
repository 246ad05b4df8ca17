"""What a reader of a data source returns, and the checks that readers share."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from scalesearch.errors import InputError


class DataError(InputError):
    """A data source cannot be used; one line names the source, the file, what it holds and what is allowed."""


@dataclass(frozen=True, slots=True)
class Split:
    """Images and the class of each."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Source:
    """All images of a source: those to train on, and a validation and a test set if it has them."""

    train: Split
    validation: Split | None
    test: Split | None


def checked_split(where: str, images: np.ndarray, labels: np.ndarray) -> Split:
    """Images and labels as a split: square uint8 images with channels, int32 labels.

    Args:
        where: the source and the file, for messages.
        images: uint8, (N, H, W) or (N, H, W, C), H = W.
        labels: whole numbers from 0, (N,) or (N, 1).

    Raises:
        DataError: images or labels are something else, or their numbers differ.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"{where}: images must be uint8 of shape (N, H, W) or (N, H, W, C), but got {images.dtype} {images.shape}"
        )
    if images.ndim == 3:
        images = images[..., None]
    if min(images.shape) < 1:
        raise DataError(f"{where}: must hold images, but their shape is {images.shape}")
    if images.shape[1] != images.shape[2]:
        raise DataError(f"{where}: images must be square, but got {images.shape[1]}×{images.shape[2]}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{where}: labels must be whole numbers of shape (N,) or (N, 1), but got {labels.dtype} {labels.shape}"
        )
    if len(images) != len(labels):
        raise DataError(f"{where}: every image needs a label, but there are {len(images):,} and {len(labels):,}")
    if labels.min() < 0 or labels.max() >= 2**31:
        raise DataError(f"{where}: labels must be 0 or more, but they go from {labels.min()} to {labels.max()}")
    return Split(images, labels.astype(np.int32))


def read_bytes(where: str, path: Path) -> bytes:
    """The content of a file, unpacked if its name ends in .gz. Raises `DataError` if it cannot be read."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                return stream.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{where}: {path}: cannot be read ({reason})") from None
