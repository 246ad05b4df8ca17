"""Images and labels that an object of the user's own gives one by one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from scalesearch.data.images import DataError, Fit, Pictures, Source, Split
from scalesearch.data.picture_facts import GREY_MODES, orientation
from scalesearch.runtime import interrupts
from scalesearch.runtime.text import first_line, short
from scalesearch.study.sections import DataSection

_CONTAINERS = (tuple, list, str, bytes, Mapping)


def is_indexable(value: Any) -> bool:
    """Whether a value gives items by their places, and is no array or container of Python's."""
    has_items = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return has_items and not hasattr(value, "__array__") and not isinstance(value, _CONTAINERS)


@dataclass(frozen=True, slots=True, eq=False)
class Items(Pictures):
    """Pictures that an object gives. It is asked for one at a time, since it may not be made for threads."""

    picture: Callable[[int], Image.Image]
    places: Int[np.ndarray, " n"]
    channels: int
    fit: Fit
    sizes: Int[np.ndarray, "n 2"]
    hashes: UInt8[np.ndarray, "n 16"]

    def __getitem__(self, index: Int[np.ndarray, " m"]) -> Self:
        return replace(self, places=self.places[index], sizes=self.sizes[index], hashes=self.hashes[index])

    def open(self, place: int) -> Image.Image:
        """One picture. Raises `DataError` if the object raises an error or gives something else."""
        return self.picture(int(self.places[place]))


def source_of_items(source: str, sets: Mapping[str, Any], section: DataSection, classes: tuple[str, ...]) -> Source:
    """Objects with a length whose items are pairs, an image and its label, as a source. Each item is asked for once.

    Images are PIL's, or arrays of uint8, uint16 or booleans, (H, W) or (H, W, C). Labels are whole numbers or strings.

    Args:
        source: the source, for messages.
        sets: the objects by name: `train`, and `validation` and `test` if there are.
        section: says where the channels of arrays are, and how images are made square.
        classes: the names of the classes, if labels are their places.

    Raises:
        DataError: an object has no items, raises an error, or gives something else.
    """
    seen = {role: _Seen(f"{source}: {role}", items, section, classes) for role, items in sets.items()}
    channels = 1 if all(each.modes <= GREY_MODES for each in seen.values()) else 3
    splits = {role: each.split(channels, section.fit) for role, each in seen.items()}
    return Source(splits["train"], splits.get("validation"), splits.get("test"), classes)


class _Seen:
    """What is known of the items of an object once each was asked for."""

    def __init__(self, where: str, items: Any, section: DataSection, classes: tuple[str, ...]) -> None:
        self._where, self._items, self._section = where, items, section
        self._lock = threading.Lock()
        self.modes: set[str] = set()
        self._sizes: list[tuple[int, int]] = []
        self._digests: list[bytes] = []
        labels: list[int | str] = []
        try:
            count = len(items)
        except Exception as error:  # whatever the user's object raises
            raise DataError(f"{where}: its length raised {type(error).__name__}: {first_line(error)}") from None
        if not count:
            raise DataError(f"{where}: must have items, but its length is 0")
        for place in range(count):
            interrupts.check()
            picture, label = self._item(place)
            self.modes.add(picture.mode)
            self._sizes.append((picture.height, picture.width))
            self._digests.append(_digest(picture))
            labels.append(_label(f"{where}: item {place}", label, classes))
        if len({type(label) for label in labels}) > 1:
            raise DataError(f"{where}: labels must all be whole numbers or all be strings, but some are either")
        self._labels = np.array(labels)

    def split(self, channels: int, fit: Fit) -> Split:
        """The pictures and their labels."""
        pictures = Items(
            lambda place: self._item(place)[0],
            np.arange(len(self._sizes)),
            channels,
            fit,
            np.array(self._sizes, np.int64),
            np.frombuffer(b"".join(self._digests), np.uint8).reshape(-1, 16),
        )
        return Split(pictures, self._labels)

    def _item(self, place: int) -> tuple[Image.Image, Any]:
        """An image and its label."""
        where = f"{self._where}: item {place}"
        with self._lock:
            try:
                item = self._items[place]
            except Exception as error:  # as above
                raise DataError(f"{where}: raised {type(error).__name__}: {first_line(error)}") from None
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"{where}: must be a pair (image, label), but got {short(item)}")
        image, label = item
        if isinstance(image, Image.Image):
            return image, label
        return _picture(where, np.asarray(image), channels_first=self._section.channels_first), label


def _picture(where: str, pixels: np.ndarray, *, channels_first: bool) -> Image.Image:
    """An array as a picture."""
    if channels_first and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    allowed = (pixels.dtype == np.uint8 and pixels.shape[2:] in ((), (3,), (4,))) or pixels.dtype == np.uint16
    if pixels.ndim not in (2, 3) or not allowed or (pixels.dtype == np.uint16 and pixels.ndim == 3) or not pixels.size:
        hint = ""
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and not channels_first:
            hint = "; if channels come first, set `channels_first = true` in [data]"
        raise DataError(
            f"{where}: an image must be PIL's, or an array of uint8 of shape (H, W), (H, W, 1) or (H, W, 3), but got "
            f"{pixels.dtype} {pixels.shape}{hint}"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _digest(picture: Image.Image) -> bytes:
    """A digest of a picture's content."""
    pixels = np.asarray(picture.convert("RGBA") if picture.mode == "P" else picture)
    digest = hashlib.blake2b(f"{picture.mode} {pixels.shape}".encode(), digest_size=16)
    turned, transparent = orientation(picture), picture.info.get("transparency")
    if turned != 1 or transparent is not None:
        digest.update(f"{turned} {transparent}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _label(where: str, label: Any, classes: tuple[str, ...]) -> int | str:
    """A label as a whole number or a string."""
    array = np.asarray(label)
    if array.size != 1 or array.dtype.kind not in "iubU" or (classes and array.dtype.kind == "U"):
        raise DataError(f"{where}: a label must be a whole number or a string, but got {short(label)}")
    value: int | str = array.reshape(()).item() if array.dtype.kind == "U" else int(array.reshape(()).item())
    if classes and not (isinstance(value, int) and 0 <= value < len(classes)):
        raise DataError(
            f"{where}: labels must be from 0 to {len(classes) - 1}, the places of `classes`, but got {value}"
        )
    return value
