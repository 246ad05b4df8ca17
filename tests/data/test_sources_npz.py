from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalesearch.data import files
from scalesearch.data.sources import DataError, Source, read_source
from scalesearch.study.sections import DataSection

IMAGES = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
LABELS = np.array([3, 0, 1, 2, 0], np.uint8)


def read(path: Path | str, **settings: Any) -> Source:
    return read_source(DataSection(source=f"npz:{path}", **settings))


def saved(folder: Path, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS, **arrays: np.ndarray) -> Path:
    path = folder / "set.npz"
    np.savez(path, train_images=images, train_labels=labels, **arrays)
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
        ("X_train", "y_train", "X_valid", "y_valid", "X_test", "y_test"),
        ("images", "labels", "validation_images", "validation_labels", "test_images", "test_labels"),
    ],
)
def test_usual_keys(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays = {name: (IMAGES, LABELS)[place % 2][: 5 - place // 2] for place, name in enumerate(names)}
    np.savez_compressed(tmp_path / "set.npz", **arrays, mean=np.zeros(3), author=np.array("me"))
    source = read(tmp_path / "set.npz")
    assert [len(split) for split in source.splits] == [5, 4, 3]
    np.testing.assert_array_equal(source.train.images[..., 0], IMAGES)
    assert source.notes == ("other arrays left out: mean and author",)


@pytest.mark.parametrize(
    ("images", "expected", "note"),
    [
        (IMAGES, IMAGES, None),
        (np.asfortranarray(IMAGES), IMAGES, None),
        (IMAGES.astype(np.int64), IMAGES, "int64 images of levels from 0 to 255 are read as uint8"),
        (IMAGES.astype(">i2"), IMAGES, ">i2 images of levels from 0 to 255 are read as uint8"),
        (IMAGES.astype(np.float32), IMAGES, "float32 images of levels from 0 to 255 are read as uint8"),
        (IMAGES / 255, IMAGES, "float64 images in [0, 1] are read as levels from 0 to 255"),
        (IMAGES.astype(np.float16) / 255, IMAGES, "float16 images in [0, 1] are read as levels from 0 to 255"),
        (IMAGES.astype(np.uint16) * 257 + 100, IMAGES, "uint16 images of up to 16 bits are read with 8: values are"),
        (IMAGES > 40, np.where(IMAGES > 40, 255, 0), "boolean images are read as black and white"),
    ],
)
def test_values_become_grey_levels(tmp_path: Path, images: np.ndarray, expected: np.ndarray, note: str | None) -> None:
    source = read(saved(tmp_path, images, test_images=images[:2], test_labels=LABELS[:2]))
    np.testing.assert_array_equal(source.train.images[..., 0], expected)
    assert source.train.images.dtype == np.uint8
    assert source.test is not None
    np.testing.assert_array_equal(source.test.images[..., 0], expected[:2])
    assert len(source.notes) == (note is not None)
    assert note is None or source.notes[0].startswith(note)


@pytest.mark.parametrize(
    ("labels", "numbered", "classes"),
    [
        (LABELS[:, None], LABELS, ()),
        (LABELS.astype(np.float32), LABELS, ()),
        (np.eye(4)[LABELS], LABELS, ()),
        (np.eye(4, dtype=bool)[LABELS], LABELS, ()),
        (LABELS.astype(np.uint64), LABELS, ()),
        (np.array(["d", "a", "b", "c", "a"]), LABELS, ("a", "b", "c", "d")),
        (np.array([b"d", b"a", b"b", b"c", b"a"]), LABELS, ("a", "b", "c", "d")),
        (LABELS > 1, [1, 0, 0, 1, 0], ()),
    ],
)
def test_labels_of_many_kinds(tmp_path: Path, labels: np.ndarray, numbered: np.ndarray, classes: Any) -> None:
    source = read(saved(tmp_path, labels=labels))
    np.testing.assert_array_equal(source.train.labels, numbered)
    assert source.train.labels.dtype == np.int32
    assert source.classes == classes
    assert bool(source.notes) == (labels.ndim == 2 and labels.shape[1] > 1)


def test_channels_first_are_told_and_taken(tmp_path: Path) -> None:
    colour = np.stack([IMAGES, IMAGES + 1, IMAGES + 2], -1)
    path = saved(tmp_path, np.moveaxis(colour, 3, 1))
    with pytest.raises(
        DataError, match=r"train_images: channels come last, \(N, H, W, C\), but got \(5, 3, 4, 4\); if"
    ):
        read(path)
    source = read(path, channels_first=True)
    np.testing.assert_array_equal(source.train.images, colour)
    assert source.notes == ("channels are moved from first to last",)
    saved(tmp_path, colour)
    with pytest.raises(DataError, match=r"`channels_first` says \(N, C, H, W\), but \(5, 4, 4, 3\) has"):
        read(path, channels_first=True)
    saved(tmp_path)
    assert read(path, channels_first=True).notes == ()


WIDE = np.tile(np.arange(6, dtype=np.uint8) * 10, (2, 4, 1))


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("crop", [[10, 20, 30, 40]] * 4),
        ("pad", [[0] * 6, *[[0, 10, 20, 30, 40, 50]] * 4, [0] * 6]),
        ("stretch", np.asarray(Image.fromarray(WIDE[0]).resize((4, 4), Image.Resampling.BILINEAR))),
    ],
)
def test_images_that_are_not_square(tmp_path: Path, fit: str, expected: Any) -> None:
    path = saved(tmp_path, WIDE, LABELS[:2])
    source = read(path, fit=fit)
    np.testing.assert_array_equal(source.train.images[0, ..., 0], expected)
    assert source.notes[0] == f"images of 4×6 pixels are made square (fit: {fit})"
    saved(tmp_path, np.stack([WIDE] * 3, -1).transpose(0, 2, 1, 3), LABELS[:2])
    tall = read(path, fit=fit).train.images[1, ..., 2]
    np.testing.assert_array_equal(tall, np.asarray(expected).T)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": IMAGES}, "must hold train_images and train_labels, but holds pictures"),
        ({}, "but holds nothing"),
        ({"train_images": IMAGES}, "train_labels is missing beside train_images"),
        ({"y_train": LABELS}, "x_train is missing beside y_train"),
        ({"test_images": IMAGES, "test_labels": LABELS}, "must hold train_images and train_labels"),
        ({"images": IMAGES[0], "labels": LABELS}, r"images: images must be numbers .* but got uint8 \(4, 4\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"must hold images, but their shape is \(0, 4, 4\)"),
        ({"images": IMAGES - 0.5, "labels": LABELS}, r"float64 images must be in .* but range from -0.5 to 78.5"),
        ({"images": IMAGES * np.nan, "labels": LABELS}, "but range from nan to nan"),
        (
            {"images": IMAGES.astype(int) * 1000, "labels": LABELS},
            "must be from 0 to 65,535, but range from 0 to 79000",
        ),
        ({"images": np.array(["a"] * 5), "labels": LABELS}, "images must be numbers"),
        (
            {"images": IMAGES, "labels": LABELS, "test_images": IMAGES / 255, "test_labels": LABELS},
            "images of all sets must have values of one kind, but got float64 and uint8",
        ),
        ({"images": IMAGES, "labels": LABELS / 2}, r"labels: labels must be whole numbers .* but got float64 \(5,\)"),
        ({"images": IMAGES, "labels": LABELS[:4]}, "labels: every image needs a label, but there are 5 and 4"),
        ({"images": IMAGES, "labels": np.ones((5, 3))}, r"must name one class an image, .* of shape \(5, 3\) do not"),
        ({"images": IMAGES, "labels": np.array([b"\xff"] * 5)}, "must be UTF-8"),
        ({"images": IMAGES, "labels": np.full(5, 0x110000, "<u4").view("<U1")}, "must be Unicode characters"),
        ({"images": IMAGES, "labels": np.full(5, 0xDFFF, ">u4").view(">U1")}, "must be Unicode characters"),
        ({"images": IMAGES, "labels": np.full(5, 2**64 - 1)}, r"must be below 2\^63"),
        ({"images": IMAGES, "labels": np.array([None] * 5)}, "labels: must be an array of .* but holds Python objects"),
        ({"images": IMAGES, "labels": np.zeros(5, "M8[D]")}, r"but holds datetime64\[D\] \(5,\)"),
        ({"images": IMAGES * 1j, "labels": LABELS}, "but holds complex128"),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    one_line(caught.value, path)


def one_line(error: DataError, path: Path) -> None:
    assert str(error).startswith(f"npz:{path}: ")
    assert str(error).count(str(path)) == 1
    assert "\n" not in str(error)


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def zipped(images: bytes, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream, labels = io.BytesIO(), io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", labels.getvalue())
    return stream.getvalue()


def encrypted() -> bytes:
    content = bytearray(zipped(header((5, 4, 4)) + bytes(80)))
    content[content.index(b"PK\1\2") + 8] |= 1
    content[6] |= 1
    return bytes(content)


def flipped(method: int) -> bytes:
    """One bit of the data, or of the sum of all bytes, is another."""
    content = bytearray(zipped(header((5, 4, 4)) + bytes(80), method=method))
    place = content.index(b"}") + 100 if method == zipfile.ZIP_STORED else content.index(b"PK\1\2") + 16
    content[place] ^= 1
    return bytes(content)


def promising() -> bytes:
    """The directory of the archive says that ten megabytes come out of a hundred bytes."""
    start = header((1000, 1000, 10))
    content = bytearray(zipped(start + bytes(80)))
    place = content.index(b"PK\1\2") + 24
    content[place : place + 4] = struct.pack("<I", len(start) + 10**7)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "must be an npz archive, but it is empty"),
        (lambda: b"<!DOCTYPE html>", "must be an npz archive, but it starts with b'<!DOCTYPE html>'"),
        (lambda: b"\x1f\x8b" + bytes(20), "but it is packed by gzip: unpack it first"),
        (lambda: header((5, 4, 4)), "but it is a single array"),
        (lambda: zipped(b"")[:200], "but is cut short"),
        (lambda: zipped(b""), r"images: must be an array in npy format, but it is empty"),
        (lambda: zipped(b"<html>" * 9), r"images: must be an array in npy format, but it starts with b'<html><h"),
        (lambda: zipped(header((5, 4, 4)) + bytes(79)), r"promises 80 bytes, shape \(5, 4, 4\), but at most 79 follow"),
        (lambda: zipped(header((10**9, 28, 28)) + bytes(1000)), "promises 784,000,000,000 bytes, .* at most 1,000"),
        (lambda: zipped(header((2**62, 4, 4))), "promises 73,786,976,294,838,206,464 bytes"),
        (lambda: zipped(header((-5, 4, 4))), "must be an array of numbers"),
        (lambda: zipped(header((1,) * 70) + bytes(1)), r"images: no array has the shape \(1, 1, 1"),
        (lambda: zipped(header((10**30, 0, 4))), r"images: no array has the shape \(10{30}, 0, 4\) of"),
        (lambda: zipped(header((5,), "|O")), "but holds Python objects"),
        (lambda: zipped(b"\x93NUMPY\1\0\x10\0{'descr': print()"), "images: its header is broken"),
        (lambda: zipped(b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + bytes(10**6)), "most 10,000 bytes"),
        (lambda: zipped(header((5, 4, 4)) + bytes(80), method=zipfile.ZIP_LZMA), "must be stored or deflated"),
        (promising, r"promises 10,000,000 bytes, .* at most \d{2,3},\d{3} follow"),
        (encrypted, "images: must not be encrypted"),
        (lambda: flipped(zipfile.ZIP_STORED), "cannot be read .*CRC"),
        (lambda: flipped(zipfile.ZIP_DEFLATED), "cannot be read .*CRC"),
    ],
)  # fmt: skip
def test_broken_archives(tmp_path: Path, content: Callable[[], bytes], message: str) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content())
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    one_line(caught.value, path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_promise_beyond_free_memory_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """An honest bomb: 10¹³ bytes of zeros would follow, says the archive."""
    content = bytearray(zipped(header((10**4, 10**3, 10**6)) + bytes(1000), method=zipfile.ZIP_STORED))
    central = content.index(b"PK\1\2")
    size = len(header((10**4, 10**3, 10**6))) + 10**13
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    name = content[central + 46 : central + 56]
    fields = content[central : central + 46]
    fields[20:28] = b"\xff" * 8
    fields[30:32] = struct.pack("<H", len(extra))
    end = content.index(b"PK\5\6")
    directory = bytes(fields) + bytes(name) + extra + bytes(content[central + 56 : end])
    tail = bytearray(content[end:])
    tail[12:16] = struct.pack("<I", len(directory))
    path = tmp_path / "set.npz"
    path.write_bytes(bytes(content[:central]) + directory + bytes(tail))
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError, match="must fit into half of the free memory .* but its header promises 10,000 GB"
        ):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_all_arrays_together_must_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of 80 bytes and labels of 5: each of them would fit into 83."""
    path = saved(tmp_path)
    monkeypatch.setattr(files, "free_memory", lambda: 2 * 83.0)
    with pytest.raises(DataError, match="must fit into half of the free memory"):
        read(path)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere.npz", "must be an npz file, but there is no file of that name"),
        (".", "but it is a folder"),
        ("set.npz/x.npz", "there is no file of that name"),
        ("x" * 300, "it cannot be found"),
        ("a\0b", "it cannot be found"),
    ],
)
def test_no_file(tmp_path: Path, place: str, message: str) -> None:
    saved(tmp_path)
    with pytest.raises(DataError, match=message):
        read(tmp_path / place)
    with pytest.raises(DataError, match="it cannot be found"):
        read("~nobody-of-that-name/x.npz")
