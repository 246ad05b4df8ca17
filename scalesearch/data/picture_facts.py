"""What must be known of a picture before it is decoded: its size, its mode and a digest, from the bytes of its file."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import warnings
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from scalesearch.data.images import DataError
from scalesearch.runtime.text import short

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""The formats that are read, by Pillow's names. Others need programs (EPS) or are no photographs."""

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
"""How files of these formats begin."""

GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
"""Pillow's modes without colour."""

DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
"""Pillow's modes of more than 8 bits for each value."""

_STRIP = 2**20
"""Pixels of more than 8 bits that are looked at at a time, which bounds memory."""

_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""


class PictureFacts(NamedTuple):
    """Height and width in pixels (upright), Pillow's mode, whether it has alpha, and a digest of the file."""

    height: int
    width: int
    mode: str
    transparent: bool
    digest: bytes


def open_picture(content: bytes, name: str) -> Image.Image:
    """A picture from the bytes of its file, not decoded yet. Its `filename` is `name`, for messages.

    Raises:
        DataError: the bytes are no picture, or one of more pixels than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    try:
        picture = Image.open(BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        pixels = re.search(r"\d+", str(error))
        raise _too_large(name, int(pixels[0]) if pixels else 0) from None
    except UnidentifiedImageError:
        if content.startswith(_MAGIC):
            raise DataError(f"{name}: cannot be decoded (its header is broken)") from None
        begins = f"it starts with {short(content[:16])}" if content else "it is empty"
        raise DataError(f"{name}: must be a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture, but {begins}") from None
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them to
        raise broken(name, error) from None
    if Image.MAX_IMAGE_PIXELS is not None and picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
        raise _too_large(name, picture.width * picture.height)
    picture.filename = name
    return picture


def open_known(content: bytes, name: str, digest: bytes) -> Image.Image:
    """`open_picture`, if the file still holds what it held when its `digest` was taken.

    What is made of a picture is kept under that digest, so other content must not take its place.
    """
    if hashlib.blake2b(content, digest_size=len(digest)).digest() != digest:
        raise DataError(f"{name}: has changed since its folder was looked at; run the same command again")
    return open_picture(content, name)


def facts_of(content: bytes, name: str, *, decode: bool) -> PictureFacts:
    """The facts of a picture, from the bytes of its file.

    Args:
        content: the bytes.
        name: the file, for messages.
        decode: decode it to the end, in whatever way is fastest, to see whether that is possible.

    Raises:
        DataError: it is no picture, has too many pixels, or cannot be decoded.
    """
    picture = open_picture(content, name)
    width, height = picture.size
    if orientation(picture) in _SIDEWAYS:
        width, height = height, width
    mode = picture.mode
    try:
        transparent = picture.has_transparency_data
        if decode:
            picture.draft(None, (1, 1))
            picture.load()
    except Exception as error:  # as above
        raise broken(name, error) from None
    if decode and mode in DEEP_MODES:
        _range(name, picture)
    return PictureFacts(height, width, mode, transparent, hashlib.blake2b(content, digest_size=16).digest())


def eight_bits(name: str, picture: Image.Image) -> UInt8[np.ndarray, "h w"]:
    """Grey levels of 16 or 32 bits as such of 8 bits. Raises `DataError` if their scale is unknown."""
    largest, high = _range(name, picture)
    levels = np.empty((picture.height, picture.width), np.uint8)
    for top, values in _strips(picture):
        if largest > 255:
            part = (values.astype(np.uint32) + 128) // 257
        else:
            part = np.rint(values * 255 if high <= 1 else values)
        levels[top : top + len(part)] = part.astype(np.uint8)
    return levels


def _strips(picture: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """The first row of each part of a picture, and its values: all of them at once would take several times as much."""
    step = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, step):
        yield top, np.asarray(picture.crop((0, top, picture.width, min(top + step, picture.height))))


def _range(name: str, picture: Image.Image) -> tuple[int, float]:
    """The largest value that grey levels of this type may have, and that they have. Raises `DataError` beyond it."""
    lows, highs = [], []
    for _, values in _strips(picture):
        lows.append(values.min().item())
        highs.append(values.max().item())
    low, high = float(np.min(lows)), float(np.max(highs))  # NaN if one is
    largest = 255 if picture.mode == "F" else 65_535
    if not (low >= 0 and high <= largest):  # also NaN
        kind = "integers of more than 8 bits" if largest > 255 else "floats"
        shown = f"from {low:g} to {high:g}" if math.isfinite(low) and math.isfinite(high) else "that are not finite"
        raise DataError(f"{name}: {kind} must be from 0 to {largest:,}, but got values {shown}")
    return largest, high


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. 1 is upright, as is a picture that gives none or whose EXIF data are broken."""
    if picture.format == "TIFF":  # Pillow turns it when it is decoded, and gives its upright size before
        return 1
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # `getexif` would decode all of it, since EXIF data may come last
    try:
        value = picture.getexif().get(0x0112, 1)
    except Exception:  # Pillow raises whatever broken EXIF data lead it to
        return 1
    return value if value in range(1, 9) else 1


def broken(name: str, error: Exception) -> DataError:
    """The error for a picture that cannot be decoded."""
    if isinstance(error, MemoryError):
        return DataError(f"{name}: does not fit into memory")
    # Other errors come from inside Pillow, as do causes.
    lines = str(error).splitlines() if isinstance(error, (OSError, SyntaxError)) else []
    return DataError(f"{name}: cannot be decoded ({lines[0] if lines else 'its content is broken or cut short'})")


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Within the context Pillow does not warn of what it can read nevertheless; too many pixels are an error at once.

    Enter it in the main thread: warnings are filtered for all threads.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _too_large(name: str, pixels: int) -> DataError:
    return DataError(f"{name}: must have at most {Image.MAX_IMAGE_PIXELS:,} pixels, but has {pixels:,}")
