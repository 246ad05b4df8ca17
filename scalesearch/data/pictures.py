"""Pictures of any size and mode as square uint8 images."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from scalesearch.data.images import Fit, Pictures


def at_resolution(pictures: Pictures, resolution: int) -> UInt8[np.ndarray, "n r r c"]:
    """All pictures as square images of `resolution` pixels."""
    images = np.empty((len(pictures), resolution, resolution, pictures.channels), np.uint8)
    for place in range(len(pictures)):
        images[place] = decoded(pictures.open(place), pictures.channels, resolution, pictures.fit)
    return images


def decoded(picture: Image.Image, channels: int, resolution: int, fit: Fit) -> UInt8[np.ndarray, "r r c"]:
    """A picture as a square image of `resolution` pixels.

    Resampled by a triangle filter that is as wide as the wider of an old and a new pixel, like `data.resize`.

    Args:
        picture: a picture of any size and mode. An EXIF orientation is followed.
        channels: 1 for grey, 3 for red, green and blue.
        resolution: height and width of the result.
        fit: `crop` takes the square in the middle, `pad` adds black borders, `stretch` changes the proportions.

    >>> decoded(Image.new("L", (30, 20), 7), 3, 8, "crop").shape
    (8, 8, 3)
    """
    mode, size = "L" if channels == 1 else "RGB", (resolution, resolution)
    picture = ImageOps.exif_transpose(picture).convert(mode)
    if fit == "crop":
        picture = ImageOps.fit(picture, size, Image.Resampling.BILINEAR)
    elif fit == "pad":
        picture = ImageOps.pad(picture, size, Image.Resampling.BILINEAR)
    else:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(*size, channels)
