"""Pictures of any size and mode as square uint8 images."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from scalesearch.data.images import DataError, Fit
from scalesearch.data.picture_facts import DEEP_MODES, broken, eight_bits, orientation

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation."""

_DRAFT = 2
"""A JPEG decoder may shrink a picture to so many times the pixels that are needed: the filter does the rest."""


def decoded(picture: Image.Image, channels: int, resolution: int, fit: Fit) -> UInt8[np.ndarray, "r r c"]:
    """A picture as a square image of `resolution` pixels.

    Resampled by a triangle filter that is as wide as the wider of an old and a new pixel, like `data.resize`. A JPEG
    picture of more than twice the pixels is first shrunk by its decoder, which is several times as fast.

    Values of 16 bits are divided by 257. Those of 32 bits are such values, or, if they are floats, levels from 0 to 1
    or to 255. Transparent parts are shown on white.

    Args:
        picture: a picture of any size and mode. An EXIF orientation is followed.
        channels: 1 for grey, 3 for red, green and blue.
        resolution: height and width of the result.
        fit: `crop` takes the square in the middle, `pad` adds black borders, `stretch` changes the proportions.

    Raises:
        DataError: it cannot be decoded.

    >>> decoded(Image.new("L", (30, 20), 7), 3, 8, "crop").shape
    (8, 8, 3)
    """
    try:
        return _decoded(picture, channels, resolution, fit)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise broken(_name(picture), error) from None


def _decoded(picture: Image.Image, channels: int, resolution: int, fit: Fit) -> UInt8[np.ndarray, "r r c"]:
    turned = _UPRIGHT.get(orientation(picture))

    # The part of the picture that is kept, and the size at which it is kept.
    width, height = picture.size
    size = (resolution, resolution)
    if fit == "pad":
        longer = max(width, height)
        size = (max(1, round(resolution * width / longer)), max(1, round(resolution * height / longer)))
    drafted = picture.draft(None, (_DRAFT * size[0], _DRAFT * size[1]))
    left, top = 0.0, 0.0
    right, bottom = drafted[1][2:] if drafted else picture.size
    if fit == "crop":
        side = min(right, bottom)
        left, top = (right - side) / 2, (bottom - side) / 2
        right, bottom = left + side, top + side

    picture = _in_mode(picture, "L" if channels == 1 else "RGB")
    picture = picture.resize(size, Image.Resampling.BILINEAR, (left, top, right, bottom))
    if turned is not None:  # now that it is small
        picture = picture.transpose(turned)
    pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    if pixels.shape[:2] == (resolution, resolution):
        return pixels
    square = np.zeros((resolution, resolution, channels), np.uint8)
    left, top = (resolution - picture.width) // 2, (resolution - picture.height) // 2
    square[top : top + picture.height, left : left + picture.width] = pixels
    return square


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    """A picture of any mode as grey or colour of 8 bits."""
    if picture.mode in DEEP_MODES:
        picture = Image.fromarray(eight_bits(_name(picture), picture))
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode == mode else picture.convert(mode)


def _name(picture: Image.Image) -> str:
    return getattr(picture, "filename", "") or "a picture"
