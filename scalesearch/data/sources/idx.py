"""Folders of IDX files, as of MNIST and its successors (http://yann.lecun.com/exdb/mnist/)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from scalesearch.data.images import DataError, Source, Split, checked_split, read_bytes
from scalesearch.study.sections import DataSection

_UNSIGNED_BYTE = 8
_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read(source: str, argument: str, section: DataSection) -> Source:
    """The images of a folder, plain or gzipped; the t10k files are its test set. Raises `DataError`."""
    del section
    folder = Path(argument).expanduser()
    if not folder.is_dir():
        raise DataError(f"{source}: must be a folder with IDX files, but there is no folder {folder}")
    train, test = (_read_split(source, folder, *_NAMES[part]) for part in ("train", "test"))
    if train is None:
        required = " and ".join(_NAMES["train"])
        content = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
        raise DataError(f"{source}: must hold {required}, plain or .gz, but holds {content}")
    return Source(train, None, test)


def _read_split(source: str, folder: Path, images_name: str, labels_name: str) -> Split | None:
    """Images and labels, or None if the folder has neither file."""
    images_path, labels_path = (_find(folder, name) for name in (images_name, labels_name))
    if images_path is None and labels_path is None:
        return None
    if images_path is None or labels_path is None:
        present, missing = (labels_name, images_name) if images_path is None else (images_name, labels_name)
        raise DataError(f"{source}: images and labels go together, but {folder} has {present} and no {missing}[.gz]")
    images = _read_array(source, images_path, "images", (3, 4))
    labels = _read_array(source, labels_path, "labels", (1,))
    return checked_split(f"{source}: {images_path}", images, labels)


def _find(folder: Path, name: str) -> Path | None:
    """The file of that name, if there is one; some mirrors write `.idx3-ubyte` for `-idx3-ubyte`."""
    for variant in (name, name.replace("-idx", ".idx")):
        for path in (folder / variant, folder / f"{variant}.gz"):
            if path.is_file():
                return path
    return None


def _read_array(source: str, path: Path, what: str, dimensions: tuple[int, ...]) -> UInt8[np.ndarray, "*shape"]:
    """An IDX file: two zero bytes, 8 for unsigned bytes, the number of dimensions, each size as big-endian uint32."""
    content = read_bytes(source, path)
    allowed = " or ".join(str(value) for value in dimensions)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE or content[3] not in dimensions:
        raise DataError(
            f"{source}: {path}: must be an IDX file of {what} (unsigned bytes, {allowed} dimensions), "
            f"but it starts with {content[:4].hex(' ') or 'nothing'}"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{source}: {path}: truncated in its header after {len(content)} bytes")
    shape = tuple(np.frombuffer(content, ">u4", count=content[3], offset=4).tolist())
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{source}: {path}: its header promises {math.prod(shape):,} bytes of {what}, shape {shape}, "
            f"but {len(content) - start:,} follow"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
