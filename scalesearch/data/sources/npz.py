"""NumPy archives with images and labels under fixed keys, as MedMNIST ships them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scalesearch.data.images import DataError, Source, Split, checked_split
from scalesearch.study.sections import DataSection

_KEYS = tuple(f"{part}_{kind}" for part in ("train", "val", "test") for kind in ("images", "labels"))


def read(source: str, argument: str, section: DataSection) -> Source:
    """The arrays train_images and train_labels of a file, and val_* and test_* if it has them. Raises `DataError`."""
    del section
    path = Path(argument).expanduser()
    if not path.is_file():
        raise DataError(f"{source}: must be an npz file, but there is no file {path}")
    where = f"{source}: {path}"
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{where}: must be an npz archive of named arrays, but it is a single array")
            arrays = {key: archive[key] for key in archive.files if key in _KEYS}
            unknown = [key for key in archive.files if key not in _KEYS]
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        # Only numpy's first sentence: the next one may advise to load the file unsafely.
        reason = str(error).partition(". ")[0].partition("  ")[0]
        raise DataError(f"{where}: must be an npz archive of plain arrays, but {reason}") from None
    if unknown:
        raise DataError(f"{where}: its keys must be among {', '.join(_KEYS)}, but got {unknown[0]!r}")
    train, validation, test = (_split(where, arrays, part) for part in ("train", "val", "test"))
    if train is None:
        raise DataError(f"{where}: must hold train_images and train_labels, but got {sorted(arrays)}")
    return Source(train, validation, test)


def _split(where: str, arrays: Mapping[str, np.ndarray], part: str) -> Split | None:
    """Images and labels, or None if the archive has neither array."""
    images, labels = arrays.get(f"{part}_images"), arrays.get(f"{part}_labels")
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        missing = f"{part}_{'images' if images is None else 'labels'}"
        raise DataError(f"{where}: images and labels go together, but {missing} is missing")
    return checked_split(where, images, labels)
