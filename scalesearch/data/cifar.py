"""CIFAR-10 and CIFAR-100 as published, in the binary or the Python version, packed or not.

The formats: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from scalesearch.data.files import existing
from scalesearch.data.images import DataError, Source, Split
from scalesearch.data.packed_files import read_archive, read_folder
from scalesearch.data.plain_pickle import read_plain_pickle
from scalesearch.runtime.text import enumerated

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class Version:
    """A published version of a set.

    Attributes:
        folder: the folder that its archive unpacks to.
        archive: the archive's name, without .tar.gz.
        train: the files of training images.
        test: the file of test images.
        names: the file of class names.
        label_bytes: bytes before the pixels of an image in a binary file, the last of which is its class.
        labels_key: the key of the classes in a pickle; None for a binary version.
        names_key: the key of the class names in a pickle.
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int = 1
    labels_key: str | None = None
    names_key: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files."""
        return (*self.train, self.test, self.names)


def read_cifar(source: str, argument: str, classes: int, versions: tuple[Version, ...]) -> Source:
    """The training and test set with the names of their classes.

    Args:
        source: the source, for messages.
        argument: the archive, the folder that it unpacks to, or a folder that holds either.
        classes: how many classes there are.
        versions: what is looked for, in this order.

    Raises:
        DataError: there is neither, or a file is missing or broken.
    """
    where, version, files = _find(source, argument, versions)
    missing = [name for name in version.files[:-1] if name not in files]
    if missing:
        raise DataError(f"{where}: must hold {enumerated(version.files)}, but lacks {enumerated(missing)}")
    read = _read_binary if version.labels_key is None else _read_python

    def split(names: tuple[str, ...]) -> Split:
        parts = [read(f"{where}: {name}", files[name], version) for name in names]
        for name, (_, labels) in zip(names, parts, strict=True):
            if labels.min() < 0 or labels.max() >= classes:
                wrong = labels.min() if labels.min() < 0 else labels.max()
                raise DataError(f"{where}: {name}: labels must be from 0 to {classes - 1}, but got {wrong}")
        planes = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32)
        return Split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.concatenate([part[1] for part in parts]))

    return Source(split(version.train), None, split((version.test,)), _class_names(where, files, version, classes))


def _find(source: str, argument: str, versions: tuple[Version, ...]) -> tuple[str, Version, Mapping[str, bytes]]:
    """Where the set is, for messages; its version; and the content of its files."""
    wanted = {name for version in versions for name in version.files}
    root = existing(source, argument, "a folder or a .tar.gz archive of this set")
    if root.is_file():
        return source, *_version(source, versions, read_archive(source, root, wanted))
    for version in versions:
        for folder in (root, root / version.folder):
            if any((folder / name).is_file() for name in version.files[:-1]):
                where = source if folder == root else f"{source}: {version.folder}"
                return where, version, read_folder(where, folder, version.files)
    for version in versions:
        for suffix in (".tar.gz", ".tgz", ".tar"):
            archive = root / f"{version.archive}{suffix}"
            if archive.is_file():
                where = f"{source}: {archive.name}"
                return where, *_version(where, versions, read_archive(where, archive, wanted))
    looked = enumerated([name for version in versions for name in (version.folder, f"{version.archive}.tar.gz")])
    held = enumerated(sorted(path.name for path in root.iterdir())[:6]) if any(root.iterdir()) else "nothing"
    raise DataError(f"{source}: must hold one of {looked}, but holds {held}")


def _version(
    where: str, versions: tuple[Version, ...], files: Mapping[str, bytes]
) -> tuple[Version, Mapping[str, bytes]]:
    for version in versions:
        if any(name in files for name in version.train):
            return version, files
    raise DataError(f"{where}: must hold {enumerated([version.train[0] for version in versions])}, but holds neither")


def _read_binary(
    where: str, content: bytes, version: Version
) -> tuple[UInt8[np.ndarray, "n p"], Int[np.ndarray, " n"]]:
    """Records of labels and pixels."""
    record = version.label_bytes + _PIXELS
    if not content or len(content) % record:
        raise DataError(f"{where}: must be records of {record:,} bytes, but has {len(content):,} bytes")
    table = np.frombuffer(content, np.uint8).reshape(-1, record)
    return table[:, version.label_bytes :], table[:, version.label_bytes - 1].astype(np.int32)


def _read_python(
    where: str, content: bytes, version: Version
) -> tuple[UInt8[np.ndarray, "n p"], Int[np.ndarray, " n"]]:
    """A pickle of a dict with `data`, an array of pixels, and a list of labels."""
    batch = _unpickled(where, content)
    key = str(version.labels_key)
    pixels, labels = batch.get("data"), np.asarray(_plain(where, batch.get(key)))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f"{where}: `data` must be uint8 of shape (N, {_PIXELS}), but got {got}")
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(
            f"{where}: `{key}` must be {len(pixels):,} whole numbers, but got {labels.dtype} {labels.shape}"
        )
    return pixels, labels.astype(np.int32)


def _plain(where: str, labels: Any) -> Any:
    """Labels that an array can be made of: a list of whole numbers, or an array."""
    if isinstance(labels, np.ndarray) or (isinstance(labels, list) and all(type(label) is int for label in labels)):
        return labels
    raise DataError(f"{where}: labels must be a list of whole numbers, but got {type(labels).__name__}")


def _unpickled(where: str, content: bytes) -> dict[str, Any]:
    try:
        value = read_plain_pickle(content)
    except ValueError as error:
        raise DataError(f"{where}: must be a pickle of plain values and arrays, but {error}") from None
    return {_text(key): item for key, item in value.items()}


def _class_names(where: str, files: Mapping[str, bytes], version: Version, classes: int) -> tuple[str, ...]:
    """The names of the classes; none if their file is missing."""
    content = files.get(version.names)
    if content is None:
        return ()
    where = f"{where}: {version.names}"
    if version.labels_key is None:
        lines = content.decode("utf-8", "replace").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
    else:
        listed = _unpickled(where, content).get(version.names_key)
        names = tuple(map(_text, listed)) if isinstance(listed, list) else ()
    if len(names) != classes or len(set(names)) != classes:
        raise DataError(f"{where}: must hold {classes} names of classes, but holds {len(set(names))}")
    return names


def _text(value: Any) -> str:
    """A key or a name; Python 2's are bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
