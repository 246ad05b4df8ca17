"""NumPy archives of images and labels, as MedMNIST, Keras and `numpy.savez` write them."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from typing import Any, BinaryIO, cast

import numpy as np

from scalesearch.data.arrays import Arrays, source_of_arrays
from scalesearch.data.files import GZIP, LARGEST_RATIO, beginning, check_memory, existing, read_array
from scalesearch.data.images import DataError, Source
from scalesearch.runtime.text import enumerated, plural, short
from scalesearch.study.sections import DataSection

_KEYS = {
    "train": (("train_images", "x_train", "images", "x"), ("train_labels", "y_train", "labels", "y")),
    "validation": (
        ("val_images", "x_val", "valid_images", "x_valid", "validation_images"),
        ("val_labels", "y_val", "valid_labels", "y_valid", "validation_labels"),
    ),
    "test": (("test_images", "x_test"), ("test_labels", "y_test")),
}
"""The arrays of each set: images and labels, the usual names first. Capitals do not matter."""

_LONGEST_HEADER = 10_000
_NPY, _ENCRYPTED = b"\x93NUMPY", 1
_NAMED = 4


def read(source: str, argument: str, section: DataSection) -> Source:
    """The images and labels of an archive: `train_images` and `train_labels`, `val_…` and `test_…` if it has them.

    Sizes are checked against the file and free memory before anything is read.

    Raises:
        DataError: the file is no archive of plain arrays, or lacks some.
    """
    path = existing(source, argument, "an npz file", folder=False)
    try:
        with path.open("rb") as stream, _archive(source, stream) as archive:
            keys, extra = _keys(source, archive)
            members = {name: _Member(f"{source}: {name}", archive, name) for name in keys.values()}
            check_memory(source, sum(member.bytes for member in members.values()))
            arrays = {name: member.read() for name, member in members.items()}
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{source}: must be a whole npz archive, but cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from None
    sets = {
        part: Arrays(
            arrays[keys[part, 0]], arrays[keys[part, 1]], f"{source}: {keys[part, 0]}", f"{source}: {keys[part, 1]}"
        )
        for part in _KEYS
        if (part, 0) in keys
    }
    notes = [f"other arrays left out: {enumerated(extra, _NAMED)}"] if extra else []
    return source_of_arrays(sets, section, notes=notes)


def _archive(source: str, stream: BinaryIO) -> zipfile.ZipFile:
    """The file as a zip archive."""
    begins = stream.read(len(_NPY) + 10)
    if begins.startswith(_NPY):
        raise DataError(f"{source}: must be an npz archive of named arrays, but it is a single array")
    if begins.startswith(GZIP):
        raise DataError(f"{source}: must be an npz archive, but it is packed by gzip: unpack it first")
    if not zipfile.is_zipfile(stream):
        cut = begins.startswith(b"PK\3\4")
        raise DataError(f"{source}: must be an npz archive, but {'is cut short' if cut else beginning(begins)}")
    return zipfile.ZipFile(stream)


def _keys(source: str, archive: zipfile.ZipFile) -> tuple[dict[tuple[str, int], str], list[str]]:
    """The name of each set's images (0) and labels (1), and the names of arrays that are left out."""
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    folded = {name.casefold(): name for name in reversed(names)}
    keys: dict[tuple[str, int], str] = {}
    for part, (images, labels) in _KEYS.items():
        found = [[folded[name] for name in usual if name in folded] for usual in (images, labels)]
        if bool(found[0]) != bool(found[1]):
            present, there, other = (found[0][0], images, labels) if found[0] else (found[1][0], labels, images)
            missing = other[there.index(present.casefold())]
            raise DataError(f"{source}: images and labels go together, but {missing} is missing beside {present}")
        if found[0]:
            keys[part, 0], keys[part, 1] = found[0][0], found[1][0]
    if ("train", 0) not in keys:
        held = enumerated(names, 2 * _NAMED) if names else "nothing"
        raise DataError(f"{source}: must hold train_images and train_labels, but holds {held}")
    return keys, [name for name in names if name not in keys.values()]


class _Member:
    """An array of the archive, whose header is read."""

    def __init__(self, where: str, archive: zipfile.ZipFile, name: str) -> None:
        self._where, self._archive = where, archive
        full = name if name in archive.namelist() else f"{name}.npy"
        self._info = info = archive.getinfo(full)
        if info.flag_bits & _ENCRYPTED:
            raise DataError(f"{where}: must not be encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{where}: must be stored or deflated, as `numpy.savez` does, not packed in another way")
        with archive.open(info) as stream:
            self._start, self._shape, self._fortran, self._dtype = _header(where, cast("BinaryIO", stream))
        self.bytes = math.prod(self._shape) * self._dtype.itemsize
        follow = info.file_size - self._start
        if self.bytes != follow or info.file_size > LARGEST_RATIO * info.compress_size:
            held = min(follow, LARGEST_RATIO * info.compress_size)
            raise DataError(
                f"{where}: its header promises {plural(self.bytes, 'byte')}, shape {self._shape}, but at most "
                f"{held:,} follow"
            )

    def read(self) -> np.ndarray:
        """The array."""
        with self._archive.open(self._info) as stream:
            stream.read(self._start)
            values = read_array(self._where, cast("BinaryIO", stream), self._dtype, math.prod(self._shape))
        try:
            return values.reshape(self._shape, order="F" if self._fortran else "C")
        except ValueError:  # too many axes, or one too long beside an empty one
            raise DataError(f"{self._where}: no array has the shape {short(self._shape)} of its header") from None


def _header(where: str, stream: BinaryIO) -> tuple[int, tuple[int, ...], bool, np.dtype[Any]]:
    """Bytes of the header of an array, its shape, whether its first axis changes fastest, and its type."""
    begins = stream.read(len(_NPY) + 2)
    if len(begins) < len(_NPY) + 2 or not begins.startswith(_NPY) or begins[-2] not in (1, 2, 3):
        raise DataError(f"{where}: must be an array in npy format, but {beginning(begins)}")
    size = stream.read(2 if begins[-2] == 1 else 4)
    length = int.from_bytes(size, "little")
    if length > _LONGEST_HEADER:
        raise DataError(f"{where}: the header of an array must have at most {_LONGEST_HEADER:,} bytes, not {length:,}")
    text = size + stream.read(length)
    try:
        read = np.lib.format.read_array_header_1_0 if begins[-2] == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(io.BytesIO(text))
    except Exception:  # numpy parses it as Python, and passes on whatever that raises
        raise DataError(f"{where}: its header is broken") from None
    if dtype.kind not in "uifbUS" or not dtype.itemsize or min(shape, default=0) < 0:
        what = "Python objects" if dtype.hasobject else f"{dtype} {shape}"
        raise DataError(f"{where}: must be an array of numbers or strings, but holds {what}")
    return len(begins) + len(text), shape, fortran, dtype
