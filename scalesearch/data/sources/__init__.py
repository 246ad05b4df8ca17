"""Image sets on disk. A kind of source is a module here with `read`, and a name in `study.sources`."""

from __future__ import annotations

from importlib import import_module

from scalesearch.data.images import DataError, Images, Pictures, Source, Split
from scalesearch.data.labels import numbered
from scalesearch.study.sections import DataSection
from scalesearch.study.sources import parse_source

__all__ = ["DataError", "Images", "Pictures", "Source", "Split", "read_source"]


def read_source(section: DataSection) -> Source:
    """All images of a study's source, such as `mnist-sample` or `idx:DIR`, with labels from 0 to K − 1.

    The module of the source's kind (mnist-sample: `mnist_sample`) is imported now, since it may need a library that
    other kinds do not; its `read(source, argument, section)` returns the images.

    Raises:
        DataError: the source cannot be read.

    >>> len(read_source(DataSection(source="mnist-sample")).train)
    5000
    """
    kind, argument = parse_source(section.source)
    reader = import_module(f"{__name__}.{kind.replace('-', '_')}")
    images: Source = reader.read(section.source, argument, section)
    return numbered(images)
