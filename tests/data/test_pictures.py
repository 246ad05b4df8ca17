from __future__ import annotations

import tracemalloc
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalesearch.data.images import DataError
from scalesearch.data.packed_files import read_folder
from scalesearch.data.picture_facts import facts_of, open_picture, quiet_pillow
from scalesearch.data.picture_index import read_picture
from scalesearch.data.pictures import decoded


def encoded(picture: Image.Image, form: str = "PNG", **settings: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, form, **settings)
    return stream.getvalue()


def stripes(height: int, width: int) -> np.ndarray:
    """Each column has a grey level of its own."""
    return np.tile(np.arange(width, dtype=np.uint8) * 10, (height, 1))


SHRUNK = [7, 25, 45, 63]
"""Columns of 0, 10, …, 70 at half the width: weights are 1/8, 3/8, 3/8, 1/8, and 3/7, 3/7, 1/7 at the edge."""


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("crop", [[20, 30, 40, 50]] * 4),
        ("stretch", [SHRUNK] * 4),
        ("pad", [[0] * 4, SHRUNK, SHRUNK, [0] * 4]),
    ],
)
@pytest.mark.parametrize("upright", [True, False])
def test_each_fit_is_exact(fit: Any, expected: list[list[int]], upright: bool) -> None:
    pixels, shown = stripes(4, 8), np.array(expected)
    picture = Image.fromarray(pixels if upright else pixels.T)
    np.testing.assert_array_equal(decoded(picture, 1, 4, fit)[..., 0], shown if upright else shown.T)


def test_crop_takes_the_middle_and_pad_shares_the_border() -> None:
    wide = Image.fromarray(stripes(2, 6))
    assert decoded(wide, 1, 2, "crop")[0, :, 0].tolist() == [20, 30]
    tall = Image.fromarray(np.full((9, 3), 200, np.uint8))
    padded = decoded(tall, 1, 9, "pad")[0, :, 0]
    assert padded.tolist() == [0, 0, 0, 200, 200, 200, 0, 0, 0]
    thin = decoded(Image.new("L", (1000, 2), 255), 1, 8, "pad")[..., 0]
    assert (thin == 255).sum() == 8  # a line of one pixel stays


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_followed(orientation: int, form: str) -> None:
    upright = np.arange(8, dtype=np.uint8).reshape(2, 4) * 30
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"lossless": True} if form == "WEBP" else {}
    content = encoded(Image.fromarray(np.ascontiguousarray(turned)), form, exif=exif, **settings)
    np.testing.assert_array_equal(decoded(open_picture(content, "x"), 1, 2, "crop")[..., 0], upright[:, 1:3])
    facts = facts_of(content, "x", decode=True)
    assert (facts.height, facts.width) == (2, 4)


GREY = np.array([[0, 51], [102, 255]], np.uint8)
COLOUR = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
ALPHA = np.array([[255, 0], [255, 0]], np.uint8)


def palette(transparent: bool) -> Image.Image:
    picture = Image.fromarray(COLOUR).quantize(4)
    if transparent:
        picture.info["transparency"] = picture.getpixel((1, 0))
    return picture


@pytest.mark.parametrize(
    ("picture", "form", "expected"),
    [
        (Image.fromarray(GREY > 60), "PNG", np.where(GREY > 60, 255, 0)),
        (Image.fromarray(GREY), "BMP", GREY),
        (Image.fromarray(GREY.astype(np.uint16) * 257 - (GREY > 0) * np.uint16(128)), "PNG", GREY),
        (Image.fromarray(GREY.astype(np.int32) * 257), "TIFF", GREY),
        (Image.fromarray(GREY / np.float32(255)), "TIFF", GREY),
        (Image.fromarray(GREY.astype(np.float32)), "TIFF", GREY),
        (Image.fromarray(np.dstack([GREY, ALPHA])), "PNG", np.where(ALPHA, GREY, 255)),
        (palette(transparent=False), "PNG", COLOUR),
        (palette(transparent=False), "GIF", COLOUR),
        (palette(transparent=True), "PNG", np.where([[[0], [1]], [[0], [0]]], 255, COLOUR)),
        (Image.fromarray(np.dstack([COLOUR, ALPHA])), "PNG", np.where(ALPHA[..., None], COLOUR, 255)),
        (Image.fromarray(np.dstack([COLOUR, ALPHA])), "WEBP", np.where(ALPHA[..., None], COLOUR, 255)),
        (Image.fromarray(COLOUR).convert("CMYK"), "TIFF", COLOUR),
        (Image.fromarray(COLOUR), "PPM", COLOUR),
    ],
)  # fmt: skip
def test_every_mode_becomes_grey_or_colour_of_eight_bits(picture: Image.Image, form: str, expected: np.ndarray) -> None:
    settings = {"lossless": True} if form == "WEBP" else {}
    read = open_picture(encoded(picture, form, **settings), "x")
    shown = decoded(read, 1 if expected.ndim == 2 else 3, 2, "crop")
    np.testing.assert_array_equal(np.squeeze(shown), expected)
    if expected.ndim == 2:
        again = open_picture(encoded(picture, form, **settings), "x")
        np.testing.assert_array_equal(decoded(again, 3, 2, "crop"), np.dstack([expected] * 3))


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("L", (4, 4), level) for level in (50, 200)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(open_picture(content, "x"), 1, 2, "crop").max() == 50


def test_a_large_jpeg_is_shrunk_by_its_decoder_and_looks_the_same() -> None:
    y, x = np.mgrid[:640, :960]
    pixels = np.stack([x / 4, y / 4, 128 + 100 * np.sin(x / 40)], -1).astype(np.uint8)
    content = encoded(Image.fromarray(pixels), "JPEG", quality=95)
    for fit in ("crop", "pad", "stretch"):
        picture = open_picture(content, "x")
        small = decoded(picture, 3, 32, fit).astype(int)
        assert max(picture.size) <= 240
        exact = decoded(Image.fromarray(pixels), 3, 32, fit).astype(int)
        assert np.abs(small - exact).max() <= 6
        assert np.abs(small - exact).mean() < 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 2), 300, np.float32), "x: floats must be from 0 to 255, but got values from 300 to 300"),
        (np.full((2, 2), np.nan, np.float32), "x: floats must be from 0 to 255, but got values that are not finite"),
        (np.full((2, 2), 70_000, np.int32), "must be from 0 to 65,535, but got values from 70000 to 70000"),
    ],
)
def test_values_of_an_unknown_scale(values: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decoded(open_picture(encoded(Image.fromarray(values), "TIFF"), "x"), 1, 2, "crop")


def test_a_picture_cut_short_is_named_when_it_is_decoded() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        content = encoded(Image.fromarray(noise), form)
        with pytest.raises(DataError, match=r"^folder:x: a/b\.jpg: \w"):
            decoded(open_picture(content[: len(content) // 2], "folder:x: a/b.jpg"), 3, 8, "crop")
        with pytest.raises(DataError, match=r"^b\.jpg: \w"):
            facts_of(content[: len(content) // 2], "b.jpg", decode=True)


def test_too_many_pixels_are_refused_whatever_is_done_with_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match="^x: must have at most 89,478,485 pixels, but has 100,000,000$"):
            open_picture(b"P6 10000 10000 255\n", "x")


def test_broken_exif_data_are_ignored() -> None:
    content = encoded(Image.fromarray(COLOUR), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    with quiet_pillow():
        assert decoded(open_picture(content, "x"), 3, 2, "crop").shape == (2, 2, 3)


def test_a_palette_that_is_missing_is_a_broken_picture() -> None:
    content = encoded(palette(transparent=False))
    start = content.index(b"PLTE") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    with pytest.raises(DataError, match="^x: cannot be decoded"):
        facts_of(content[:start] + content[start + 12 + length :], "x", decode=False)


def test_a_deep_picture_is_looked_at_in_parts() -> None:
    content = encoded(Image.fromarray(np.full((2048, 2048), 500, np.uint16)))
    tracemalloc.start()
    try:
        assert facts_of(content, "x", decode=True).mode == "I;16"
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20  # its values take as much
    finally:
        tracemalloc.stop()


def test_memory_is_taken_for_what_a_file_holds(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"few")
    tracemalloc.start()
    try:
        assert read_picture(tmp_path, "x.png", "x") == b"few"
        assert read_folder("x", tmp_path, ["x.png"]) == {"x.png": b"few"}
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
