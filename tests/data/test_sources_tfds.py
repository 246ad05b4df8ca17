from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalesearch.data.examples import parse_example
from scalesearch.data.images import DataError, Pictures, Source
from scalesearch.data.records import masked_crc32c
from scalesearch.data.sources import read_source
from scalesearch.study.sections import DataSection
from tests.data.tfds_files import CLASSES, FEATURES, encoded, serialised, write_tfds

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (6 + place, 5, 3), dtype=np.uint8) for place in range(7)]
LABELS = [2, 0, 1, 1, 0, 2, 0]
ROWS = [
    {"image": encoded(image), "label": label, "id": f"row {place}".encode()}
    for place, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True))
]
SPLITS = {"train": [ROWS[:2], ROWS[2:5]], "test": [ROWS[5:]]}


def read(place: object, **settings: Any) -> Source:
    return read_source(DataSection(source=f"tfds:{place}", **settings))


def pixels(pictures: object, place: int) -> np.ndarray:
    assert isinstance(pictures, Pictures)
    return np.asarray(pictures.open(place))


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_pictures_and_labels_of_both_file_formats(tmp_path: Path, kind: str) -> None:
    source = read(write_tfds(tmp_path / "1.0.0", SPLITS, kind))
    assert source.classes == CLASSES
    assert source.train.labels.tolist() == LABELS[:5]
    assert source.validation is None
    assert source.test is not None
    assert source.test.labels.tolist() == LABELS[5:]
    pictures = source.train.images
    assert isinstance(pictures, Pictures)
    assert (pictures.channels, pictures.sizes.tolist()) == (3, [list(image.shape[:2]) for image in IMAGES[:5]])
    assert len(np.unique(pictures.hashes, axis=0)) == 5
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda place: pixels(pictures[np.arange(5)[::-1]], place), range(5)))
    for image, expected in zip(found, IMAGES[4::-1], strict=True):
        np.testing.assert_array_equal(image, expected)


def test_a_set_by_the_folder_above_its_newest_version_or_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, rows in (("1.2.0", ROWS[:3]), ("1.10.0", ROWS[:4])):
        write_tfds(tmp_path / "tiny" / version, {"train": [rows]})
    assert len(read(tmp_path / "tiny").train) == len(read(tmp_path).train) == 4
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(read("tiny").train) == 4
    assert len(read("tiny:1.2.0").train) == 3
    write_tfds(tmp_path / "other" / "config" / "1.0.0", {"train": [ROWS]})
    assert len(read("other").train) == 7
    write_tfds(tmp_path / "third" / "1.0.0", {"train": [ROWS]})
    with pytest.raises(DataError, match=r"holds several data sets, third and tiny: name one of them"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"there is no folder absent or .*/absent$"):
        read("absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"must hold dataset_info\.json, at most 2 folders deep, but holds nothing"):
        read(tmp_path / "empty")


def test_labels_of_another_column_and_classes_without_names(tmp_path: Path) -> None:
    folder = write_tfds(tmp_path / "1.0.0", SPLITS)
    named = read(folder, label_column="id")
    assert named.classes == tuple(f"row {place}" for place in range(7))
    (folder / "label.labels.txt").unlink()
    assert read(folder).classes == ("0", "1", "2")


def test_columns_are_found_by_type_without_supervised_keys(tmp_path: Path) -> None:
    assert read(write_tfds(tmp_path / "1.0.0", SPLITS, supervised=None)).train.labels.tolist() == LABELS[:5]
    two = {"left": FEATURES["image"], "right": FEATURES["image"], "label": FEATURES["label"]}
    folder = write_tfds(tmp_path / "2.0.0", SPLITS, features=two, supervised=None)
    with pytest.raises(DataError, match="several columns of images, left and right: set `image_column` to one of them"):
        read(folder)
    no_image = {"label": FEATURES["label"], "depth": {"image": {"dtype": "float32"}}}
    with pytest.raises(DataError, match="must have a column of images, but has none"):
        read(write_tfds(tmp_path / "3.0.0", SPLITS, features=no_image))


def test_a_test_set_without_labels_is_left_out(tmp_path: Path) -> None:
    secret = [{**row, "label": -1} for row in ROWS[:2]]
    source = read(write_tfds(tmp_path / "1.0.0", {"train": [ROWS], "test": [secret], "extra": [ROWS]}))
    assert source.test is None
    assert source.notes == ("the split extra is left out", "the test set has no labels, and is left out")


def test_a_test_set_without_pictures_is_left_out(tmp_path: Path) -> None:
    source = read(write_tfds(tmp_path / "1.0.0", {"train": [ROWS], "test": []}))
    assert source.test is None
    assert source.notes == ("the test set has no pictures, and is left out",)


def test_a_broken_picture_is_named_and_left_out_only_if_the_study_says_so(tmp_path: Path) -> None:
    cut = {**ROWS[1], "image": ROWS[1]["image"][:-30]}
    folder = write_tfds(tmp_path / "1.0.0", {"train": [[ROWS[0], {**ROWS[0], "image": b"<html>"}, cut, *ROWS[2:]]]})
    name = folder / "tiny-train.tfrecord-00000-of-00001"
    with pytest.raises(
        DataError,
        match=rf"{name}: record 1: must be a JPEG.*b'<html>' .and 1 other.; to leave out broken pictures, set `skip",
    ):
        read(folder)
    source = read(folder, skip_broken=True)
    assert source.train.labels.tolist() == [LABELS[0], *LABELS[2:]]
    np.testing.assert_array_equal(pixels(source.train.images, 1), IMAGES[2])
    (note,) = source.notes
    assert note.startswith(f"2 broken pictures left out: {name}: record 1: must be")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def promise_terabytes(path: Path) -> None:
    length = struct.pack("<Q", 2**43)
    path.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + b"few")


def change_json(name: str, **values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path.parent / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


def replace_json(name: str, content: str) -> Callable[[Path], None]:
    return lambda path: (path.parent / name).write_text(content) and None


def split(**values: Any) -> list[dict[str, Any]]:
    return [{"name": "train", "shardLengths": ["2"], **values}]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_off, r"tiny-train\S*-of-00001: truncated in record 1: \d+ bytes are promised, but \d+ follow$"),
        (promise_terabytes, "truncated in record 0: 8,796,093,022,208 bytes are promised, but 3 follow$"),
        (
            lambda path: path.write_text("<!DOCTYPE html><html>"),
            "must be an uncompressed TFRecord file, but the length",
        ),
        (lambda path: path.write_bytes(b"\0\1"), "truncated in record 0$"),
        (lambda path: path.write_bytes(b""), "must hold 2 records, but holds 0$"),
        (Path.unlink, "cannot be read .No such file"),
        (change_json("dataset_info.json", splits=[]), r"dataset_info\.json: must list the splits .* but got \[\]$"),
        (change_json("dataset_info.json", splits=[{"name": "train"}]), "a split must have a name and shardLengths"),
        (change_json("dataset_info.json", splits=split(shardLengths=["x"])), "name its files and their lengths"),
        (change_json("dataset_info.json", splits=split(filepathTemplate="../{SPLIT}")), "must be in this folder, but"),
        (change_json("dataset_info.json", splits=split(filepathTemplate="a\0b")), "cannot be read .embedded null byte"),
        (change_json("dataset_info.json", splits=split(filepathTemplate="\ud800")), "cannot be read .*surrogates"),
        (change_json("dataset_info.json", fileFormat={}), r"must be array_record and tfrecord, but got \{\}$"),
        (
            change_json("dataset_info.json", fileFormat="riegeli"),
            "must be array_record and tfrecord, but got 'riegeli'",
        ),
        (replace_json("dataset_info.json", "<html>"), r"dataset_info\.json: not valid JSON"),
        (replace_json("features.json", "[" * 100_000), r"features\.json: not valid JSON"),
        (replace_json("features.json", "[]"), r"features\.json: must be an object, but got \[\]$"),
        (replace_json("features.json", "{}"), "must list features by name"),
    ],
)
def test_broken_files(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    folder = write_tfds(tmp_path / "1.0.0", {"train": [ROWS[:2]]})
    spoil(folder / "tiny-train.tfrecord-00000-of-00001")
    with pytest.raises(DataError, match=message) as caught:
        read(folder)
    assert str(caught.value).startswith(f"tfds:{folder}: {folder}/")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"<html>", b"\0" * 2**16])
def test_broken_array_record(tmp_path: Path, content: bytes) -> None:
    folder = write_tfds(tmp_path / "1.0.0", {"train": [ROWS[:2]]}, "array_record")
    (folder / "tiny-train.array_record-00000-of-00001").write_bytes(content)
    with pytest.raises(DataError, match=r"array_record-00000-of-00001: must be an ArrayRecord file, but") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"<html>", "record 1: is no tf.train.Example"),
        ({"label": 0}, "record 1: has no feature 'image'"),
        ({**ROWS[0], "image": 7}, "record 1: holds values of other types"),
        ({**ROWS[0], "label": 3}, "record 1: the label must be 0 to 2, but is 3"),
    ],
)
def test_broken_records(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write_tfds(tmp_path / "1.0.0", {"train": [[ROWS[0], row]]}))


def test_without_the_package_array_record_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tfds(tmp_path / "1.0.0", {"train": [ROWS[:2]]}, "array_record")
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(DataError, match=r'pip install "scalesearch\[tfds\]"'):
        read(folder)


def test_an_example_is_parsed_and_a_checksum_is_that_of_tensorflow() -> None:
    example = {"label": -1, "image": b"\x89PNG"}
    assert parse_example(serialised(example)) == {"label": [-1], "image": [b"\x89PNG"]}
    # The first 12 bytes of a file that tensorflow-datasets 4.9.10 wrote.
    header = bytes.fromhex("7401 0000 0000 0000 5997 e318")
    assert masked_crc32c(header[:8]) == int.from_bytes(header[8:], "little")
