"""The files of a folder or of a tar archive, which is read without being unpacked to disk."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from scalesearch.data.files import unpacked
from scalesearch.data.images import DataError

LARGEST = 2**28
"""Bytes of all files of an archive at most."""

_CHUNK = 2**20


def read_folder(where: str, folder: Path, names: Collection[str]) -> dict[str, bytes]:
    """The files of these names, as many as there are. Raises `DataError` if one is too large or cannot be read."""
    files: dict[str, bytes] = {}
    for name in names:
        path = folder / name
        try:
            if path.is_file():
                with path.open("rb") as stream:
                    size = os.fstat(stream.fileno()).st_size
                    files[name] = stream.read(min(size, LARGEST + 1))  # memory is taken for what is asked for
        except OSError as error:
            raise DataError(f"{where}: {name}: cannot be read ({error.strerror or error})") from None
        if len(files.get(name, b"")) > LARGEST:
            raise DataError(f"{where}: {name}: must have at most {LARGEST:,} bytes")
    return files


def read_archive(where: str, path: Path, names: Collection[str], largest: int = LARGEST) -> dict[str, bytes]:
    """The files of these names in a tar archive, packed by gzip or not, in whatever folder.

    Raises:
        DataError: it is no such archive, cut short, larger than `largest` bytes, or holds links, devices or paths that
            lead out of its folder.
    """
    files: dict[str, bytes] = {}
    with unpacked(where, path) as (stream, _, _):
        try:
            with tarfile.open(fileobj=_Bounded(where, stream, largest), mode="r|") as archive:
                for member in archive:
                    inside = PurePosixPath(member.name)
                    if inside.is_absolute() or ".." in inside.parts:
                        raise DataError(f"{where}: must hold no path out of its folder, but has {member.name!r}")
                    if not (member.isreg() or member.isdir()):
                        raise DataError(f"{where}: must hold files and folders only, but {member.name!r} is another")
                    if member.size > largest:
                        raise _too_large(where, largest)
                    content = archive.extractfile(member) if inside.name in names and member.isreg() else None
                    if content is not None:
                        files[inside.name] = content.read()
        except DataError:
            raise
        except (tarfile.TarError, ValueError) as error:
            raise DataError(f"{where}: must be a whole tar archive, but cannot be read ({error})") from None
    return files


class _Bounded(io.RawIOBase):
    """A stream that ends with an error before much more than `largest` bytes are read from it."""

    def __init__(self, where: str, stream: BinaryIO, largest: int) -> None:
        self._where, self._stream, self._largest, self._left = where, stream, largest, largest + _CHUNK

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._where, self._largest)
        buffer[: len(content)] = content
        return len(content)


def _too_large(where: str, largest: int) -> DataError:
    return DataError(f"{where}: must hold at most {largest:,} bytes")
