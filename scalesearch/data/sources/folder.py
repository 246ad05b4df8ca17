"""Pictures in folders: one for each class, in folders train, val and test or not (torchvision's ImageFolder)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from scalesearch.data.files import expanded
from scalesearch.data.images import DataError, Fit, Pictures, Source, Split
from scalesearch.data.picture_facts import DEEP_MODES, GREY_MODES, PictureFacts, open_known
from scalesearch.data.picture_index import facts_of_files, read_picture
from scalesearch.data.picture_listing import Listing, PictureFile, listed, printable
from scalesearch.data.picture_notes import broken_notes, conversion_notes
from scalesearch.runtime.text import plural
from scalesearch.study.sections import DataSection

_ROLES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""The folders of each set, in lower case."""

_DECODED_BYTES = 2**30
"""A folder of no more bytes is decoded once at the start, so that a broken picture is found before anything else."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureFiles(Pictures):
    """Pictures in files of a folder.

    Attributes:
        where: the source, for messages.
        folder: the folder that `paths` are relative to.
        paths: the file of each picture.
    """

    where: str
    folder: Path
    paths: np.ndarray
    channels: int
    fit: Fit
    sizes: Int[np.ndarray, "n 2"]
    hashes: UInt8[np.ndarray, "n 16"]

    def __getitem__(self, index: Int[np.ndarray, " m"]) -> Self:
        return replace(self, paths=self.paths[index], sizes=self.sizes[index], hashes=self.hashes[index])

    def open(self, place: int) -> Image.Image:
        """One picture. Raises `DataError` if its file cannot be read or has changed."""
        name = f"{self.where}: {printable(self.paths[place])}"
        content = read_picture(self.folder, self.paths[place], name)
        return open_known(content, name, self.hashes[place].tobytes())


def read(source: str, argument: str, section: DataSection) -> Source:
    """The pictures of a folder.

    Classes are its sub-folders, or those of `train/` beside `val/` and `test/`, in the order of their names; pictures
    are the files below them, at any depth.

    Raises:
        DataError: there is no such folder, it has no classes, a validation or test set has other classes than the
            training set, or a picture is broken.
    """
    folder = expanded(source, argument)
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "does not exist"
        raise DataError(f"{source}: must be a folder with a sub-folder for each class, but it {problem}")
    listing = Listing(source, folder)
    sets, notes = _sets(source, listing)
    classes = list(sets["train"])

    # Each picture with its class and its set, and what is known of it.
    files: list[PictureFile] = []
    labels: list[int] = []
    roles: list[str] = []
    label_of = {name: label for label, name in enumerate(classes)}
    for role, files_of in sets.items():
        for name, of_class in files_of.items():
            files += of_class
            labels += [label_of[name]] * len(of_class)
            roles += [role] * len(of_class)
    decode = section.skip_broken or sum(file.size for file in files) <= _DECODED_BYTES
    facts = facts_of_files(source, folder, files, decode=decode)
    broken = [str(problem).removeprefix(f"{source}: ") for problem in facts if isinstance(problem, DataError)]
    notes += broken_notes(source, broken, section.skip_broken)

    # The sets, without pictures that are broken.
    whole = [place for place, found in enumerate(facts) if isinstance(found, PictureFacts)]
    known = [found for found in facts if isinstance(found, PictureFacts)]
    pictures = _pictures(source, folder, [files[place] for place in whole], known, section)
    splits: dict[str, Split | None] = {"train": None, "validation": None, "test": None}
    for role in sets:
        chosen = np.array([at for at, place in enumerate(whole) if roles[place] == role], np.int64)
        if len(chosen):
            splits[role] = Split(pictures[chosen], np.array([labels[whole[at]] for at in chosen], np.int32))
    train = splits["train"]
    held = set() if train is None else set(train.labels.tolist())
    for label, name in enumerate(classes):
        if label not in held:
            raise DataError(f"{source}: all training pictures of the class {printable(name)} are broken")
    assert train is not None
    return Source(
        train,
        splits["validation"],
        splits["test"],
        tuple(map(printable, classes)),
        (*notes, *listing.notes(), *_conversions(known)),
    )


_Classes = Mapping[str, Sequence[PictureFile]]
"""The pictures of each class."""


def _sets(source: str, listing: Listing) -> tuple[dict[str, _Classes], list[str]]:
    """The classes of the training set, and those of the validation and test set if there are; notes on others."""
    folders, notes = _set_folders(source, listing)
    sets: dict[str, _Classes] = {"train": listing.classes(folders.get("train", Path()))}
    train = f"{source}: {printable(folders['train'])}/" if folders else source
    if len(sets["train"]) < 2:
        raise DataError(f"{train}: must have a sub-folder of pictures for each class, {_lacking(listing, folders)}")
    for role, path in folders.items():
        if role == "train":
            continue
        sets[role] = listing.classes(path)
        unknown = [name for name in sets[role] if name not in sets["train"]]
        if unknown:
            raise DataError(
                f"{source}: {printable(path)}/: must have no other classes than {printable(folders['train'])}/, "
                f"but has {listed(unknown)}"
            )
        missing = [name for name in sets["train"] if name not in sets[role]]
        if not sets[role]:
            notes.append(f"{printable(path)}/ has no sub-folders with pictures, and is left out")
        elif missing:
            notes.append(f"{printable(path)}/ has no pictures of {listed(missing)}")
    return sets, notes


def _set_folders(source: str, listing: Listing) -> tuple[dict[str, Path], list[str]]:
    """The folders of the sets, none if the sub-folders are classes themselves; and a note on other folders.

    A class may be called train: such a folder has pictures in it, no classes.
    """
    names = listing.folders(Path())
    folders: dict[str, Path] = {}
    for role, usual in _ROLES.items():
        held = [name for name in names if name.casefold() in usual]
        if len(held) > 1 and role in ("train", "validation"):
            raise DataError(f"{source}: must have one folder of {role} pictures, but has {listed(held)}")
        if held:
            folders[role] = Path(held[0])
    if "train" not in folders:
        if names and {*map(Path, names)} == {*folders.values()}:
            raise DataError(f"{source}: must have a folder train beside {listed(names)}")
        return {}, []
    if listing.pictures(folders["train"]) or not listing.folders(folders["train"]):
        return {}, []
    others = [name for name in names if Path(name) not in folders.values() and listing.pictures_below(Path(name))]
    return folders, [f"left out beside {printable(folders['train'])}/: {listed(others)}"] if others else []


def _lacking(listing: Listing, folders: Mapping[str, Path]) -> str:
    """What a training set of fewer than two classes has instead of them."""
    path = folders.get("train", Path())
    classes = list(listing.classes(path))
    if classes:
        below = listing.folders(path / classes[0])
        hint = f"; if its sub-folders are the classes, name {printable(classes[0])} itself" if len(below) > 1 else ""
        return f"at least two, but only {printable(classes[0])} has pictures{hint}"
    pictures, empty = len(listing.pictures(path)), len(listing.folders(path))
    if empty:
        return f"but {plural(empty, 'sub-folder')} hold{'s' * (empty == 1)} none"
    return f"but has {plural(pictures, 'picture')} and no sub-folder" if pictures else "but has no picture"


def _pictures(
    where: str, folder: Path, files: Sequence[PictureFile], facts: Sequence[PictureFacts], section: DataSection
) -> PictureFiles:
    """All pictures of the source."""
    return PictureFiles(
        where,
        folder,
        np.array([file.path for file in files], object),
        1 if all(found.mode in GREY_MODES for found in facts) else 3,
        section.fit,
        np.array([(found.height, found.width) for found in facts], np.int64).reshape(-1, 2),
        np.frombuffer(b"".join(found.digest for found in facts), np.uint8).reshape(-1, 16),
    )


def _conversions(facts: Sequence[PictureFacts]) -> tuple[str, ...]:
    """Notes on what becomes of the values of pictures."""
    return conversion_notes(
        pictures=len(facts),
        grey=sum(found.mode in GREY_MODES for found in facts),
        deep=sum(found.mode in DEEP_MODES for found in facts),
        transparent=sum(found.transparent for found in facts),
    )
