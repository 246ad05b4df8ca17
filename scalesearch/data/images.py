"""Images and labels as a reader of a data source returns them, and the checks that readers share."""

from __future__ import annotations

import gzip
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, TypeAlias

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from PIL import Image

from scalesearch.errors import InputError

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
"""How an image is made square: by the square in its middle, by borders, or by other proportions."""


class DataError(InputError):
    """A data source cannot be used; one line names the source, the file, what it holds and what is allowed."""


class Pictures(ABC):
    """Images that stay where they are until they are needed, each of its own size.

    Attributes:
        channels: 1 if all of them are grey, else 3.
        fit: how they are made square: `crop`, `pad` or `stretch`.
        sizes: height and width of each, upright (after an EXIF orientation).
        hashes: a digest of the content of each: equal for equal pictures.
    """

    channels: int
    fit: Fit
    sizes: Int[np.ndarray, "n 2"]
    hashes: UInt8[np.ndarray, "n 16"]

    def __len__(self) -> int:
        return len(self.sizes)

    @abstractmethod
    def __getitem__(self, index: Int[np.ndarray, " m"]) -> Self:
        """The pictures at these places, in this order."""

    @abstractmethod
    def open(self, place: int) -> Image.Image:
        """One picture of any mode, not decoded yet where its format allows that. Called from several threads."""


Images: TypeAlias = "UInt8[np.ndarray, 'n h w c'] | Pictures"
"""All images of a split: an array of square images, or pictures that are read when they are needed."""


@dataclass(frozen=True, slots=True)
class Split:
    """Images and the class of each.

    A reader may give labels of any whole numbers or strings; those of a `Source` from `read_source` are 0 … K − 1.
    """

    images: Images
    labels: Shaped[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Int[np.ndarray, " m"]) -> Split:
        """The images and labels at these places, in this order."""
        return Split(self.images[index], self.labels[index])


def pictures_in(*splits: Split) -> tuple[Pictures, ...]:
    """The pictures of those splits that are not arrays."""
    return tuple(split.images for split in splits if isinstance(split.images, Pictures))


@dataclass(frozen=True, slots=True)
class Source:
    """All images of a source: those to train on, and a validation and a test set if it has them.

    Attributes:
        train: the images to train on.
        validation: a validation set of the source's own.
        test: a test set of the source's own.
        classes: the name of each class, in the order of the labels; empty if the source names none.
        notes: what a reader converted or left out, as sentences for the user.
    """

    train: Split
    validation: Split | None
    test: Split | None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are."""
        return tuple(split for split in (self.train, self.validation, self.test) if split is not None)


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
