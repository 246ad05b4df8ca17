from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scalesearch.data.decoding import decode_in_parts
from scalesearch.data.sources import DataError, Pictures, Source, read_source
from scalesearch.study.sections import DataSection


def read(folder: Path, **settings: Any) -> Source:
    return read_source(DataSection(source=f"folder:{folder}", **settings))


def write(path: Path, level: int = 0, size: tuple[int, int] = (6, 4), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level).save(path)


def levels(pictures: Any) -> list[int]:
    """The grey level of each picture of one colour."""
    assert isinstance(pictures, Pictures)
    return np.concatenate([*decode_in_parts(pictures, 1)])[:, 0, 0, 0].tolist()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes, three pictures of one grey level each."""
    folder = tmp_path / "pets"
    for place, name in enumerate(["dog/2.png", "cat/b.png", "cat/a.png", "dog/1.png", "cat/old/z.png", "dog/10.png"]):
        write(folder / name, place)
    return folder


def test_classes_are_sub_folders_in_the_order_of_image_folder(pets: Path) -> None:
    source = read(pets)
    assert source.classes == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert levels(source.train.images) == [2, 1, 4, 3, 5, 0]
    assert (source.validation, source.test, source.notes) == (None, None, ())
    images = source.train.images
    assert isinstance(images, Pictures)
    assert images.channels == 1
    assert images.sizes.tolist() == [[4, 6]] * 6
    assert levels(images[np.array([5, 0])]) == [0, 2]
    assert len(np.unique(images.hashes, axis=0)) == 6


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "valid", "testing"), ("train", "validation", "")]
)
def test_sets_in_folders(tmp_path: Path, pets: Path, names: tuple[str, str, str]) -> None:
    root = tmp_path / "sets"
    root.mkdir()
    pets.rename(root / names[0])
    write(root / names[1] / "cat/v.png", 50)
    write(root / names[1] / "dog/w.png", 60)
    if names[2]:
        write(root / names[2] / "dog/t.png", 70)
    write(root / "unlabelled/x/u.png", 80)
    source = read(root)
    assert len(source.train) == 6
    assert source.validation is not None
    assert levels(source.validation.images) == [50, 60]
    assert source.validation.labels.tolist() == [0, 1]
    notes = [f"left out beside {names[0]}/: unlabelled"]
    if names[2]:
        assert source.test is not None
        assert source.test.labels.tolist() == [1]
        notes.append(f"{names[2]}/ has no pictures of cat")
    assert sorted(source.notes) == sorted(notes)


def test_a_class_may_be_called_train_and_a_test_set_may_have_no_classes(pets: Path) -> None:
    write(pets / "train/locomotive.png", 9)
    assert read(pets).classes == ("cat", "dog", "train")
    (pets / "train/locomotive.png").unlink()
    write(pets / "train/cat/a.png")
    write(pets / "train/dog/a.png")
    write(pets / "test/1.png")
    source = read(pets)
    assert (source.classes, source.test) == (("cat", "dog"), None)
    assert "test/ has no sub-folders with pictures, and is left out" in source.notes


def test_what_is_left_out_is_counted(pets: Path) -> None:
    for name in (".DS_Store", "cat/.hidden.png", "cat/notes.txt", "labels.csv", "cat/Thumbs.db"):
        (pets / name).write_bytes(b"x")
    (pets / ".git").mkdir()
    write(pets / ".git/cat/x.png")
    write(pets / "cover.png")
    (pets / "empty").mkdir()
    source = read(pets)
    assert len(source.train) == 6
    assert source.notes == (
        "1 sub-folder left out without pictures: empty",
        "1 picture left out beside the sub-folders of the classes",
        "3 files left out of another kind",
        "3 hidden files left out",
    )


def test_links_are_followed_once(pets: Path) -> None:
    (pets / "cat/again").symlink_to(pets / "cat", target_is_directory=True)
    (pets / "dog/up").symlink_to("..", target_is_directory=True)
    (pets / "cat/self").symlink_to("self")
    (pets / "cat/link.png").symlink_to(pets / "cat/a.png")
    source = read(pets)
    assert (source.train.labels == 0).sum() == 4
    (pets / "dog/gone.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"dog/gone\.png: cannot be read \(No such file or directory\)"):
        read(pets)


def test_names_that_are_no_utf_8(pets: Path) -> None:
    strange = os.fsencode(pets) + b"/\xff"
    try:
        Path(os.fsdecode(strange)).mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    write(Path(os.fsdecode(strange)) / "a.png")
    assert read(pets).classes == ("cat", "dog", r"\xff")
    (Path(os.fsdecode(strange)) / "b.png").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        read(pets)
    assert r"\xff/b.png" in str(caught.value)
    str(caught.value).encode()


def test_colour_depth_and_alpha_are_told(pets: Path) -> None:
    write(pets / "cat/colour.png", mode="RGB")
    write(pets / "cat/clear.png", mode="RGBA")
    write(pets / "cat/deep.png", mode="I;16")
    source = read(pets)
    assert isinstance(source.train.images, Pictures)
    assert source.train.images.channels == 3
    assert source.notes == (
        "7 pictures without colour: read as red, green and blue, like the others",
        "1 picture of more than 8 bits a value: read with 8 bits",
        "1 picture with an alpha channel: shown on white",
    )


BROKEN = [
    (lambda whole: b"", r"must be a JPEG, .* or PPM picture, but it is empty"),
    (lambda whole: b"<!DOCTYPE html><html>", r"but it starts with b'<!DOCTYPE html>"),
    (lambda whole: whole[:-20], r"cannot be decoded \(image file is truncated"),
    (lambda whole: whole[:20], r"cannot be decoded \("),
    (lambda whole: whole[:16] + b"\x7f\xff\xff\xff\x00\x00\x40\x00" + whole[24:], "cannot be decoded"),
    (lambda whole: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "but it starts with b'%!PS-Adobe"),
    (lambda whole: b"P6 30000 30000 255\n", "must have at most 89,478,485 pixels, but has 900,000,000"),
    (lambda whole: b"P6 10000 10000 255\n", "must have at most 89,478,485 pixels, but has 100,000,000"),
    (lambda whole: b"P6 4000 4000 255\n" + bytes(100), r"cannot be decoded \("),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_a_broken_picture_is_named_or_skipped(pets: Path, spoil: Any, message: str) -> None:
    path = pets / "dog/2.png"
    path.write_bytes(spoil(path.read_bytes()))
    before = sorted(pets.rglob("*"))
    with pytest.raises(DataError, match=rf"dog/2\.png: .*{message}") as caught:
        read(pets)
    told = str(caught.value)
    assert told.count(str(pets)) == told.count("dog/2.png") == 1
    assert told.endswith("to leave out broken pictures, set `skip_broken` in [data]")
    assert "\n" not in told
    source = read(pets, skip_broken=True)
    assert levels(source.train.images) == [2, 1, 4, 3, 5]
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.notes[0].startswith("1 broken picture left out: dog/2.png: ")
    assert sorted(pets.rglob("*")) == before


def test_all_of_a_class_are_broken(pets: Path) -> None:
    for path in pets.glob("dog/*"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"dog/1\.png: .* \(and 2 others\)"):
        read(pets)
    with pytest.raises(DataError, match="all training pictures of the class dog are broken"):
        read(pets, skip_broken=True)


def test_a_picture_that_changes_later_is_named(pets: Path) -> None:
    images = read(pets).train.images
    (pets / "dog/2.png").unlink()
    with pytest.raises(DataError, match=r"^folder:.*: dog/2\.png: cannot be read"):
        levels(images)
    (pets / "cat/a.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"^folder:.*: cat/a\.png: has changed since its folder was looked at"):
        levels(images)


def test_only_pictures_that_changed_are_read_again(pets: Path) -> None:
    before = read(pets).train.images
    whole = (pets / "cat/a.png").read_bytes()
    status = (pets / "cat/a.png").stat()
    (pets / "cat/a.png").write_bytes(b"x" * len(whole))  # unseen, since size and time stay
    os.utime(pets / "cat/a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    write(pets / "dog/2.png", 99)
    write(pets / "dog/9.png", 98)
    after = read(pets).train.images
    assert isinstance(before, Pictures)
    assert isinstance(after, Pictures)
    assert len(after) == 7
    changed = [place for place in range(6) if (before.hashes[place] != after.hashes[place]).any()]
    assert changed == [5]
    os.utime(pets / "cat/a.png", ns=(0, 0))
    with pytest.raises(DataError, match="cat/a.png"):
        read(pets)


def test_a_damaged_index_is_no_problem(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "cache"))
    read(pets)
    (kept,) = (tmp_path / "cache").rglob("*.npz")
    whole = kept.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"<html>"):
        kept.write_bytes(content)
        assert len(read(pets).train) == 6
    assert len(kept.read_bytes()) == len(whole)
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", "/proc/nowhere")
    assert len(read(pets).train) == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "but it does not exist"),
        (lambda root: root.write_bytes(b"x"), "but it is no folder"),
        (lambda root: root.mkdir(), "a sub-folder of pictures for each class, but has no picture"),
        (lambda root: write(root / "a.png"), "but has 1 picture and no sub-folder"),
        (lambda root: (root / "a/b").mkdir(parents=True), "but 1 sub-folder holds none"),
        (lambda root: write(root / "cat/a.png"), "at least two, but only cat has pictures$"),
        (
            lambda root: (write(root / "pets/cat/a.png"), write(root / "pets/dog/a.png")),
            "but only pets has pictures; if its sub-folders are the classes, name pets itself",
        ),
        (
            lambda root: (write(root / "val/a/b.png"), write(root / "test/a/b.png")),
            "a folder train beside test and val",
        ),
        (
            lambda root: [write(root / name) for name in ("train/a/1.png", "train/b/1.png", "val/c/1.png")],
            "val/: must have no other classes than train/, but has c",
        ),
        (
            lambda root: [write(root / name) for name in ("train/a/1.png", "val/a/1.png")],
            "train/: .* only a has pictures",
        ),
        (
            lambda root: [write(root / name) for name in ("train/a/1.png", "val/a/1.png", "valid/a/1.png")],
            "must have one folder of validation pictures, but has val and valid",
        ),
    ],
)
def test_folders_without_classes(tmp_path: Path, make: Any, message: str) -> None:
    root = tmp_path / "set"
    make(root)
    with pytest.raises(DataError, match=message) as caught:
        read(root)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(str(root)) == 1


def test_a_folder_that_cannot_be_listed(pets: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read anything")
    (pets / "cat/old").chmod(0)
    with pytest.raises(DataError, match="cat/old: cannot be read"):
        read(pets)
