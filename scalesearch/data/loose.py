"""Single pictures that nobody has labelled, as square images: files, or pictures that are open already."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from scalesearch.data.images import DataError, Fit
from scalesearch.data.picture_facts import open_picture, quiet_pillow
from scalesearch.data.picture_index import read_picture
from scalesearch.data.picture_listing import Listing, printable
from scalesearch.data.pictures import decoded
from scalesearch.errors import InputError
from scalesearch.runtime import interrupts
from scalesearch.runtime.cores import usable_cores

Picture: TypeAlias = "str | Path | Image.Image"
"""A picture's file, or a picture of Pillow."""


def picture_files(places: Sequence[str | Path]) -> list[Path]:
    """The files that `places` name: a file stands for itself, a folder for the pictures in it and below, sorted.

    In a folder, hidden files and those whose names are not a picture's are left out. A file that does not exist is
    in the list all the same: opening it says so.

    Raises:
        InputError: a folder cannot be read, or holds no pictures.
    """
    files: list[Path] = []
    for place in map(Path, places):
        if not place.is_dir():
            files.append(place)
            continue
        found = Listing(printable(place), place).pictures_below(Path())
        if not found:
            raise InputError(f"{printable(place)}: no pictures there")
        files += [place / file.path for file in found]
    return files


def square_images(
    pictures: Sequence[Picture], channels: int, resolution: int, fit: Fit
) -> list[UInt8[np.ndarray, "r r c"] | DataError]:
    """Each picture as a square image (`data.pictures.decoded`), or why there is none. Decoded by all cores."""

    def square(picture: Picture) -> UInt8[np.ndarray, "r r c"] | DataError:
        try:
            # A copy: a picture that is still a file would be opened at another size.
            opened = picture.copy() if isinstance(picture, Image.Image) else _opened(picture)
            return decoded(opened, channels, resolution, fit)
        except DataError as error:
            return error

    interrupts.check()
    with quiet_pillow(), ThreadPoolExecutor(len(usable_cores())) as pool:
        return list(pool.map(square, pictures))


def _opened(file: str | Path) -> Image.Image:
    name = printable(file)
    return open_picture(read_picture(Path(), os.fspath(file), name), name)
