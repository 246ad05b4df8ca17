"""Folders of IDX files, as of MNIST and its successors (http://yann.lecun.com/exdb/mnist/)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from scalesearch.data.arrays import Arrays, source_of_arrays
from scalesearch.data.files import existing, read_array, unpacked
from scalesearch.data.images import DataError, Source
from scalesearch.study.sections import DataSection

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read(source: str, argument: str, section: DataSection) -> Source:
    """The images of a folder, plain or gzipped; the t10k files are its test set. Raises `DataError`."""
    folder = existing(source, argument, "a folder with IDX files", folder=True)
    sets = {part: _read_set(source, folder, *names) for part, names in _NAMES.items()}
    found = {part: arrays for part, arrays in sets.items() if arrays is not None}
    if "train" not in found:
        required = " and ".join(_NAMES["train"])
        content = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
        raise DataError(f"{source}: must hold {required}, plain or .gz, but holds {content}")
    return source_of_arrays(found, section)


def _read_set(source: str, folder: Path, images_name: str, labels_name: str) -> Arrays | None:
    """Images and labels, or None if the folder has neither file."""
    images, labels = (_find(folder, name) for name in (images_name, labels_name))
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        present, missing = (labels_name, images_name) if images is None else (images_name, labels_name)
        raise DataError(f"{source}: images and labels go together, but it has {present} and no {missing}[.gz]")
    wheres = [f"{source}: {path.relative_to(folder)}" for path in (images, labels)]
    return Arrays(
        _read_array(wheres[0], images, "images", (3, 4)), _read_array(wheres[1], labels, "labels", (1, 2)), *wheres
    )


def _find(folder: Path, name: str) -> Path | None:
    """The file of that name, if there is one.

    Some mirrors write `.idx3-ubyte` for `-idx3-ubyte`; some archives unpack each file into a folder of its name.
    """
    for variant in (name, name.replace("-idx", ".idx")):
        for path in (folder / variant, folder / f"{variant}.gz", folder / variant / variant):
            if path.is_file():
                return path
    return None


def _read_array(where: str, path: Path, what: str, dimensions: tuple[int, ...]) -> np.ndarray:
    """An IDX file: two zero bytes, the type, the number of dimensions, each size as big-endian uint32, the values."""
    with unpacked(where, path) as (stream, size, packed):
        begins = stream.read(4)
        if len(begins) < 4 or begins[:2] != b"\0\0" or begins[2] not in _TYPES or begins[3] not in dimensions:
            allowed = " or ".join(str(value) for value in dimensions)
            raise DataError(
                f"{where}: must be an IDX file of {what} (numbers, {allowed} dimensions), "
                f"but it starts with {begins.hex(' ') or 'nothing'}"
            )
        sizes = stream.read(4 * begins[3])
        if len(sizes) < 4 * begins[3]:
            raise DataError(f"{where}: truncated in its header after {4 + len(sizes)} bytes")
        shape = tuple(np.frombuffer(sizes, ">u4").tolist())
        dtype = np.dtype(_TYPES[begins[2]])
        promised, follow = math.prod(shape) * dtype.itemsize, size - 4 - len(sizes)
        problem = f"{where}: its header promises {promised:,} bytes of {what}, shape {shape}, but"
        if promised > follow or (promised < follow and not packed):
            raise DataError(f"{problem} {'at most ' if packed else ''}{follow:,} follow")
        values = read_array(where, stream, dtype, math.prod(shape))
        if stream.read(1):
            raise DataError(f"{problem} more follow")
    return values.astype(dtype.newbyteorder("="), copy=False).reshape(shape)
