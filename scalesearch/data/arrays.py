"""Arrays of images and labels as users keep them, as square uint8 images and labels of whole numbers or strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from scalesearch.data.images import DataError, Fit, Source, Split
from scalesearch.runtime.text import enumerated
from scalesearch.study.sections import DataSection

_CHANNELS = (1, 3)
_CHUNK = 2**24
"""Values converted at a time, which bounds memory."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """Images and labels of a set, and where they come from, for messages: `npz:FILE: train_images`, or the like."""

    images: np.ndarray
    labels: np.ndarray
    images_name: str
    labels_name: str


def source_of_arrays(
    sets: Mapping[str, Arrays], section: DataSection, classes: tuple[str, ...] = (), notes: Sequence[str] = ()
) -> Source:
    """Sets named train, validation and test as a source. What is converted is said in its notes.

    Images are integers, floats in [0, 1] or [0, 255], or booleans, of shape (N, H, W) or (N, H, W, C); (N, C, H, W) if
    the study says so. Integers above 255 are divided by 257. Labels are whole numbers or strings, of shape (N,) or
    (N, 1), or one-hot.

    Args:
        sets: the sets by name; there is a training set.
        section: says where the channels are, and how images are made square.
        classes: the names of the classes, if labels are their places.
        notes: what is said beside that.

    Raises:
        DataError: images or labels are something else, or their numbers differ.
    """
    shaped: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    said: list[str] = []
    for name, arrays in sets.items():
        shaped[name] = _channels_last(arrays.images_name, arrays.images, section)
        labels[name], note = _whole_labels(arrays.labels_name, arrays.labels)
        said += note
        if len(shaped[name]) != len(labels[name]):
            raise DataError(
                f"{arrays.labels_name}: every image needs a label, but there are {len(shaped[name]):,} and "
                f"{len(labels[name]):,}"
            )
    scale, note = _scale([(sets[name].images_name, images) for name, images in shaped.items()])
    said += note
    height, width = shaped["train"].shape[1:3]
    if height != width:
        said.append(f"images of {height}×{width} pixels are made square (fit: {section.fit})")
    if section.channels_first and sets["train"].images.ndim == 4:
        said.append("channels are moved from first to last")
    splits = {
        name: Split(made_square(_eight_bits(images, scale), section.fit), labels[name])
        for name, images in shaped.items()
    }
    return Source(
        splits["train"], splits.get("validation"), splits.get("test"), classes, (*notes, *dict.fromkeys(said))
    )


def _whole_labels(where: str, labels: np.ndarray) -> tuple[Shaped[np.ndarray, " n"], list[str]]:
    """Labels as whole numbers or strings of shape (N,), and a note if they are converted."""
    original = labels
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{where}: labels of bytes must be UTF-8") from None
    if labels.dtype.kind == "U" and not _is_text(labels):
        raise DataError(f"{where}: labels of text must be Unicode characters")
    if labels.ndim == 2 and labels.dtype.kind in "iufb":
        one_hot = ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()
        if not one_hot:
            raise DataError(
                f"{where}: labels must name one class an image, of shape (N,), (N, 1) or one-hot, but those of shape "
                f"{labels.shape} do not"
            )
        return labels.argmax(1), [f"one-hot labels of {labels.shape[1]} classes are read as their places"]
    if labels.ndim == 1 and labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels % 1 == 0).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise DataError(
            f"{where}: labels must be whole numbers or strings of shape (N,) or (N, 1), or one-hot, but got "
            f"{original.dtype} {original.shape}"
        )
    if labels.dtype.kind == "u":
        if labels.dtype.itemsize == 8 and len(labels) and labels.max() > np.iinfo(np.int64).max:
            raise DataError(f"{where}: labels must be below 2^63, but got {labels.max()}")
        labels = labels.astype(np.int64)  # so that labels of two types compare exactly
    return labels, []


def _is_text(strings: np.ndarray) -> bool:
    """Whether strings, which a file may hold as any 32-bit numbers, are characters."""
    codes = np.frombuffer(strings.tobytes(), strings.dtype.byteorder.replace("|", "=") + "u4")
    return bool(((codes < 0xD800) | ((codes > 0xDFFF) & (codes <= 0x10FFFF))).all())


def _channels_last(where: str, images: np.ndarray, section: DataSection) -> np.ndarray:
    """Images with a last axis of channels."""
    if images.ndim not in (3, 4) or images.dtype.kind not in "uifb":
        raise DataError(
            f"{where}: images must be numbers of shape (N, H, W) or (N, H, W, C), but got {images.dtype} {images.shape}"
        )
    if min(images.shape) < 1:
        raise DataError(f"{where}: must hold images, but their shape is {images.shape}")
    if images.ndim == 3:
        return images[..., None]
    first, last = images.shape[1] in _CHANNELS, images.shape[3] in _CHANNELS
    if section.channels_first:
        if last and not first:
            raise DataError(
                f"{where}: `channels_first` says (N, C, H, W), but {images.shape} has its channels last: leave it out"
            )
        return np.moveaxis(images, 1, 3)
    if first and not last:
        raise DataError(
            f"{where}: channels come last, (N, H, W, C), but got {images.shape}; if they come first, set "
            "`channels_first = true` in [data]"
        )
    return images


def _scale(sets: Sequence[tuple[str, np.ndarray]]) -> tuple[float, list[str]]:
    """What values are multiplied by to get levels from 0 to 255, the same for all sets; and a note if they change."""
    types = {images.dtype for _, images in sets}
    if types == {np.dtype(np.uint8)}:
        return 1.0, []
    named = enumerated(sorted(map(str, types)))
    if len({"u" if dtype.kind == "i" else dtype.kind for dtype in types}) > 1:
        raise DataError(f"{sets[0][0]}: images of all sets must have values of one kind, but got {named}")
    largest = 0.0
    floats = any(images.dtype.kind == "f" for _, images in sets)
    for where, images in sets:
        low, high = float(images.min()), float(images.max())
        allowed = "in [0, 1] or [0, 255]" if floats else "from 0 to 65,535"
        if not (low >= 0 and high <= (255 if floats else 65_535)):  # also NaN
            raise DataError(f"{where}: {images.dtype} images must be {allowed}, but range from {low:g} to {high:g}")
        largest = max(largest, high)
    if types == {np.dtype(bool)}:
        return 255.0, ["boolean images are read as black and white"]
    if floats and largest <= 1:
        return 255.0, [f"{named} images in [0, 1] are read as levels from 0 to 255"]
    if largest <= 255:
        return 1.0, [f"{named} images of levels from 0 to 255 are read as uint8"]
    return 1 / 257, [f"{named} images of up to 16 bits are read with 8: values are divided by 257"]


def _eight_bits(images: np.ndarray, scale: float) -> UInt8[np.ndarray, "n h w c"]:
    """Values multiplied by `scale` and rounded."""
    if images.dtype == np.uint8 and scale == 1:
        return images
    levels = np.empty(images.shape, np.uint8)
    step = max(1, _CHUNK // (images[0].size))
    for start in range(0, len(images), step):
        part = images[start : start + step].astype(np.float64)
        levels[start : start + step] = np.rint(part * scale)
    return levels


def made_square(images: UInt8[np.ndarray, "n h w c"], fit: Fit) -> UInt8[np.ndarray, "n s s c"]:
    """The square in the middle, the images with black borders, or at the shorter side's size in both directions."""
    count, height, width, channels = images.shape
    if height == width:
        return np.ascontiguousarray(images)
    short, long = min(height, width), max(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    if fit == "crop":
        return np.ascontiguousarray(images[:, top : top + short, left : left + short])
    if fit == "pad":
        padded = np.zeros((count, long, long, channels), np.uint8)
        top, left = (long - height) // 2, (long - width) // 2
        padded[:, top : top + height, left : left + width] = images
        return padded
    stretched = np.empty((count, short, short, channels), np.uint8)
    for image, channel in np.ndindex(count, channels):
        plane = Image.fromarray(np.ascontiguousarray(images[image, ..., channel]))
        stretched[image, ..., channel] = plane.resize((short, short), Image.Resampling.BILINEAR)
    return stretched
