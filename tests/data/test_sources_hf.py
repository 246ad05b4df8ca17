from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from scalesearch.data.images import DataError, Pictures, Source
from scalesearch.data.sources import read_source
from scalesearch.study.sections import DataSection
from tests.data.tfds_files import encoded

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (6 + place, 5, 3), dtype=np.uint8) for place in range(6)]
FILES = [encoded(image) for image in IMAGES]
LABELS = [2, 0, 1, 1, 0, 2]
NAMES = ["cat", "dog", "owl"]


def read(place: object, **settings: Any) -> Source:
    return read_source(DataSection(source=f"hf:{place}", **settings))


def columns(library: Any, rows: slice = slice(None), **more: Any) -> Any:
    """A data set of pictures with labels, and other columns."""
    content = {"image": [{"bytes": file, "path": None} for file in FILES[rows]], "label": LABELS[rows]}
    features = {"image": library.Image(), "label": library.ClassLabel(names=NAMES)}
    return library.Dataset.from_dict(
        {**content, **{name: values for name, (values, _) in more.items()}},
        features=library.Features({**features, **{name: feature for name, (_, feature) in more.items()}}),
    )


def saved(library: Any, folder: Path) -> Path:
    columns(library).save_to_disk(folder)
    return folder


def saved_splits(library: Any, folder: Path) -> Path:
    names = {"train": slice(None), "valid": slice(0, 2), "test": slice(2, 3)}
    library.DatasetDict({name: columns(library, rows) for name, rows in names.items()}).save_to_disk(folder)
    return folder


def parquet_splits(library: Any, folder: Path) -> Path:
    """As repositories on the hub are laid out."""
    for name, rows in (("train", slice(None)), ("validation", slice(0, 2)), ("test", slice(2, 3))):
        columns(library, rows).to_parquet(folder / "plain" / f"{name}-00000-of-00001.parquet")
    return folder


def parquet_file(library: Any, folder: Path) -> Path:
    """Without the types of `datasets`: what other programs write."""
    del library
    folder.mkdir()
    pictures = pa.array([{"bytes": file, "path": None} for file in FILES])
    names = [NAMES[label] for label in LABELS]
    pa.parquet.write_table(pa.table({"image": pictures, "label": names}), folder / "pets.parquet")
    return folder / "pets.parquet"


def image_folder(library: Any, folder: Path) -> Path:
    del library
    splits = {"train": range(6), "val": range(2), "test": range(2, 3)}
    for split, places in splits.items():
        for place in places:
            path = folder / split / NAMES[LABELS[place]] / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(FILES[place])
    return folder


@pytest.mark.parametrize("write", [saved, saved_splits, parquet_splits, parquet_file, image_folder])
def test_each_kind_of_a_data_set_gives_the_same_pictures(
    tmp_path: Path, hugging_face: Any, write: Callable[[Any, Path], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    place = write(hugging_face, tmp_path / "set")
    capfd.readouterr()  # its progress bars
    source = read(place)
    assert source.classes == tuple(NAMES)
    assert not source.notes
    pictures = source.train.images
    assert isinstance(pictures, Pictures)
    order = np.argsort(pictures.sizes[:, 0])  # the height tells which one it is
    assert source.train.labels[order].tolist() == LABELS
    for place, image in zip(order.tolist(), IMAGES, strict=True):
        np.testing.assert_array_equal(np.asarray(pictures.open(place)), image)
    assert len(np.unique(pictures.hashes, axis=0)) == 6
    if write in (saved, parquet_file):
        assert source.validation is source.test is None
    else:
        assert source.validation is not None
        assert source.test is not None
        assert sorted(source.validation.labels.tolist()) == [0, 2]
        assert source.test.labels.tolist() == [1]
    assert capfd.readouterr() == ("", "")


def test_a_configuration_is_a_folder_of_the_data_set(tmp_path: Path, hugging_face: Any) -> None:
    folder = parquet_splits(hugging_face, tmp_path / "set")
    assert len(read(f"{folder}:plain").train) == 6
    with pytest.raises(DataError, match="must have a folder fancy, but has plain$"):
        read(f"{folder}:fancy")


def test_columns_are_found_or_given(tmp_path: Path, hugging_face: Any) -> None:
    picture, value = hugging_face.Image(), hugging_face.Value("int64")
    mask = ([{"bytes": file, "path": None} for file in FILES[::-1]], picture)
    coarse = ([0, 1, 0, 1, 0, 1], hugging_face.ClassLabel(names=["x", "y"]))
    place = str(tmp_path / "set")
    columns(hugging_face, mask=mask, coarse=coarse, weight=([1.5] * 6, hugging_face.Value("float64"))).save_to_disk(
        place
    )
    assert read(place).train.labels.tolist() == LABELS  # `image` and `label` are the usual names
    other = read(place, image_column="mask", label_column="coarse")
    assert (other.classes, other.train.labels.tolist()) == (("x", "y"), coarse[0])
    assert isinstance(other.train.images, Pictures)
    assert other.train.images.sizes[0].tolist() == [11, 5]
    with pytest.raises(DataError, match="`label_column` must be one of label, coarse, but got 'weight'"):
        read(place, label_column="weight")

    renamed = columns(hugging_face, mask=mask, digit=(LABELS, value)).rename_columns({"image": "photo", "label": "x"})
    renamed.save_to_disk(tmp_path / "two")
    with pytest.raises(DataError, match="several columns of images, photo and mask: set `image_column` to one of them"):
        read(tmp_path / "two")
    assert read(tmp_path / "two", image_column="mask").classes == tuple(NAMES)  # x, by its type
    renamed.remove_columns(["mask", "x"]).save_to_disk(tmp_path / "three")
    with pytest.raises(DataError, match="no column of labels is found: set `label_column` to one of digit"):
        read(tmp_path / "three")
    renamed.remove_columns(["mask", "photo"]).save_to_disk(tmp_path / "four")
    with pytest.raises(DataError, match="must have a column of images, but has none"):
        read(tmp_path / "four")


@pytest.mark.parametrize("typed", [False, True])
def test_arrays_of_grey_levels(tmp_path: Path, hugging_face: Any, typed: bool) -> None:
    digits = RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8)
    features = {"image": hugging_face.Array2D((4, 4), "uint8"), "label": hugging_face.Value("bool")}
    rows = {"image": digits.tolist(), "label": [True, False] * 3}
    content = hugging_face.Dataset.from_dict(rows, features=hugging_face.Features(features) if typed else None)
    content.save_to_disk(tmp_path / "set")
    source = read(tmp_path / "set")
    assert isinstance(source.train.images, np.ndarray)
    np.testing.assert_array_equal(source.train.images[..., 0], digits)
    assert source.train.labels.tolist() == [1, 0] * 3
    if not typed:
        ragged = hugging_face.Dataset.from_dict({**rows, "image": [*rows["image"][:5], [[1, 2], [3, 4]]]})
        ragged.save_to_disk(tmp_path / "ragged")
        with pytest.raises(DataError, match="split train: all images must have one shape"):
            read(tmp_path / "ragged")


def test_missing_labels_and_broken_pictures_name_their_row(tmp_path: Path, hugging_face: Any) -> None:
    del hugging_face

    def write(name: str, pictures: list[Any], labels: list[int | None]) -> Path:
        pa.parquet.write_table(pa.table({"image": pictures, "label": labels}), tmp_path / name)
        return tmp_path / name

    with pytest.raises(DataError, match="split train: row 1: must have a label"):
        read(write("labels.parquet", FILES, [0, None, *LABELS[2:]]))
    beside = tmp_path / "beside.png"
    beside.write_bytes(FILES[0])
    contents = [None, None, b"<html>", FILES[3][:-40], *FILES[4:]]
    paths = [str(beside), "/absent.png", *[None] * 4]
    pictures = [{"bytes": content, "path": path} for content, path in zip(contents, paths, strict=True)]
    place = write("pictures.parquet", pictures, LABELS)
    with pytest.raises(
        DataError, match=r"split train: row 1: /absent\.png: cannot be read .* \(and 1 other\); to leave out"
    ):
        read(place)
    source = read(place, skip_broken=True)
    assert source.train.labels.tolist() == [1, 0, 1]  # of 2, 0 and 2
    assert source.notes[0].startswith("3 broken pictures left out: split train: row 1: ")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("write", "name", "spoil", "message"),
    [
        (parquet_file, "pets.parquet", lambda path: path.write_text("<html>" * 9), "starts with 3c 68 74 6d$"),
        (parquet_file, "pets.parquet", lambda path: path.write_bytes(b""), "starts with nothing$"),
        (parquet_file, "pets.parquet", cut, "must be a whole Parquet file, but its end is missing or broken$"),
        (
            parquet_file,
            "pets.parquet",
            lambda path: path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x7fPAR1"),
            "its end is missing or broken$",
        ),
        (
            parquet_file,
            "pets.parquet",
            lambda path: path.write_bytes(b"PAR1" + bytes(28) + b"PAR1"),
            r"pets\.parquet cannot be read: ",
        ),
        (saved, "data-00000-of-00001.arrow", cut, "set cannot be read: "),
        (saved, "data-00000-of-00001.arrow", lambda path: path.write_text("<html>"), "set cannot be read: "),
        (saved, "state.json", lambda path: path.write_text("<html>"), "set cannot be read: "),
        (saved, "dataset_info.json", Path.unlink, "set cannot be read: "),
    ],
)
def test_broken_files(
    tmp_path: Path,
    hugging_face: Any,
    write: Callable[[Any, Path], Path],
    name: str,
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    place = write(hugging_face, tmp_path / "set")
    spoil(tmp_path / "set" / name)
    with pytest.raises(DataError, match=message) as caught:
        read(place)
    assert str(caught.value).startswith(f"hf:{place}: ")
    assert "\n" not in str(caught.value)


def test_what_is_no_data_set(tmp_path: Path, hugging_face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "note.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"must hold a saved data set .*, Parquet files, or pictures in .* holds none"):
        read(tmp_path)
    with pytest.raises(
        DataError, match="must be a folder, a Parquet file or a name on the hub, but there is no /absent"
    ):
        read("/absent")
    with pytest.raises(DataError, match=r"there is no folder uoft-cs/cifar10, and .*Offline") as caught:
        read("uoft-cs/cifar10:plain_text")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'needs the package datasets: pip install "scalesearch\[huggingface\]"'):
        read(tmp_path)


def test_the_rows_are_looked_at_once(tmp_path: Path, hugging_face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(hugging_face, tmp_path / "set")
    first = read(folder)
    opened: list[int] = []
    find = Image.open
    monkeypatch.setattr("PIL.Image.open", lambda *given, **more: opened.append(1) or find(*given, **more))
    again = read(folder)
    assert not opened
    assert isinstance(first.train.images, Pictures)
    assert isinstance(again.train.images, Pictures)
    np.testing.assert_array_equal(again.train.images.hashes, first.train.images.hashes)
    np.testing.assert_array_equal(again.train.images.sizes, first.train.images.sizes)
    np.testing.assert_array_equal(again.train.labels, first.train.labels)
    np.testing.assert_array_equal(np.asarray(again.train.images.open(3)), IMAGES[3])
    (folder / "data-00000-of-00001.arrow").touch()
    read(folder)
    assert len(opened) == 7  # one above
