"""Which files of a folder are pictures, and which classes they are of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scalesearch.data.images import DataError
from scalesearch.runtime.text import enumerated, plural

_JPEG, _PPM = ("jpg", "jpeg", "jpe", "jfif"), ("ppm", "pgm", "pbm", "pnm")
SUFFIXES = frozenset((*_JPEG, "png", "webp", "bmp", "dib", "tif", "tiff", "gif", *_PPM))
"""Files whose names end in anything else are no pictures."""

_NAMED = 5


class PictureFile(NamedTuple):
    """A file: its path relative to the folder, its bytes (−1 if it cannot be reached), when it was last written."""

    path: str
    size: int
    modified: int


def printable(path: str | Path) -> str:
    r"""A path as text that can be printed: bytes that are no UTF-8 are written `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def listed(paths: Sequence[str | Path]) -> str:
    """Paths as a sentence lists them."""
    return enumerated([printable(path) for path in paths], _NAMED)


@dataclass(slots=True)
class Listing:
    """Lists what is in a folder, and remembers what it leaves out.

    Attributes:
        source: the source, for messages.
        root: the folder. Paths are relative to it.
    """

    source: str
    root: Path
    _hidden: set[str] = field(default_factory=set)
    _foreign: set[str] = field(default_factory=set)
    _beside: set[str] = field(default_factory=set)
    _empty: list[Path] = field(default_factory=list)

    def folders(self, path: Path) -> list[str]:
        """The names of the folders in a folder, sorted."""
        return sorted(entry.name for entry in self._entries(path) if _is_folder(entry))

    def pictures(self, path: Path) -> list[PictureFile]:
        """The pictures in a folder itself, sorted."""
        return sorted(_picture_file(path, entry) for entry in self._entries(path) if self._is_picture(entry))

    def pictures_below(self, path: Path) -> list[PictureFile]:
        """The pictures in a folder and below, sorted by folder and name. Each folder is read once, even if linked."""
        files: list[tuple[str, str, PictureFile]] = []
        visited: set[tuple[int, int]] = set()
        waiting = [path]
        while waiting:
            folder = waiting.pop()
            status = (self.root / folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            for entry in self._entries(folder):
                if _is_folder(entry):
                    waiting.append(folder / entry.name)
                elif self._is_picture(entry):
                    files.append((str(folder), entry.name, _picture_file(folder, entry)))
        return [file for _, _, file in sorted(files)]

    def classes(self, path: Path) -> dict[str, list[PictureFile]]:
        """The pictures below each sub-folder of a folder, sorted by its name, where there are any."""
        self._beside.update(file.path for file in self.pictures(path))
        classes = {name: self.pictures_below(path / name) for name in self.folders(path)}
        self._empty += [path / name for name, files in classes.items() if not files]
        return {name: files for name, files in classes.items() if files}

    def notes(self) -> list[str]:
        """What was left out, as sentences."""
        counted = (
            (self._empty, "sub-folder", f" without pictures: {listed(self._empty)}" if self._empty else ""),
            (self._beside, "picture", " beside the sub-folders of the classes"),
            (self._foreign, "file", " of another kind"),
            (self._hidden, "hidden file", ""),
        )
        return [f"{plural(len(names), noun)} left out{rest}" for names, noun, rest in counted if names]

    def _entries(self, path: Path) -> list[os.DirEntry[str]]:
        """The entries of a folder that are not hidden."""
        try:
            with os.scandir(self.root / path) as found:
                entries = list(found)
        except OSError as error:
            name = f"{self.source}: {printable(path)}" if path.parts else self.source
            raise DataError(f"{name}: cannot be read ({error.strerror or error})") from None
        self._hidden.update(entry.path for entry in entries if entry.name.startswith("."))
        return [entry for entry in entries if not entry.name.startswith(".")]

    def _is_picture(self, entry: os.DirEntry[str]) -> bool:
        """Whether a file's name is a picture's. A link that leads nowhere counts: its picture is missing."""
        if _is_folder(entry):
            return False
        _, dot, suffix = entry.name.rpartition(".")
        if dot and suffix.lower() in SUFFIXES and (_is_file(entry) or entry.is_symlink()):
            return True
        self._foreign.add(entry.path)
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _picture_file(folder: Path, entry: os.DirEntry[str]) -> PictureFile:
    path = f"{folder}/{entry.name}"
    try:
        status = entry.stat()
    except OSError:  # opening it gives the reason
        return PictureFile(path, -1, -1)
    return PictureFile(path, status.st_size, status.st_mtime_ns)
