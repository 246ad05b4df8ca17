"""Image sets on disk. A kind of source is a module here with `read`, and a name in `study.sources`."""

from __future__ import annotations

from importlib import import_module

from scalesearch.data.sources.base import DataError, Source, Split
from scalesearch.study.sources import parse_source

__all__ = ["DataError", "Source", "Split", "read_source"]


def read_source(source: str) -> Source:
    """All images of a source such as `mnist-sample` or `idx:DIR`.

    The module of the source's kind (mnist-sample: `mnist_sample`) is imported now, since it may need a library that
    other kinds do not; its `read(source, argument)` returns the images.

    Raises:
        DataError: the kind is unknown, or the source cannot be read.

    >>> len(read_source("mnist-sample").train)
    5000
    """
    try:
        kind, argument = parse_source(source)
    except ValueError as error:
        raise DataError(str(error)) from None
    reader = import_module(f"{__name__}.{kind.replace('-', '_')}")
    images: Source = reader.read(source, argument)
    return images
