"""Labels of any kind as 0 … K − 1, with the name of each class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scalesearch.data.images import Source, Split
from scalesearch.runtime.text import enumerated

_SHOWN = 5
"""So many labels are shown in a note; more are cut."""


def numbered(source: Source) -> Source:
    """`source` with int32 labels 0 … K − 1 in every split, the names of the classes, and a note if labels changed.

    Labels that the source names (`classes`) are already the places of their names. Others are numbered in their
    order: whole numbers by size, strings by the alphabet.

    >>> images = np.zeros((3, 2, 2, 1), np.uint8)
    >>> source = numbered(Source(Split(images, np.array([5, 2, 5])), None, None))
    >>> source.train.labels.tolist(), source.classes, source.notes
    ([1, 0, 1], ('2', '5'), ('the labels 2 and 5 are renumbered 0 and 1',))
    """
    found = np.unique(np.concatenate([np.unique(split.labels) for split in source.splits]))
    if source.classes:
        return _with_labels(source, np.arange(len(source.classes)))
    if found.dtype.kind != "U" and found[0] == 0 and found[-1] == len(found) - 1:
        return _with_labels(source, found)
    names = tuple(map(str, found.tolist()))
    notes = source.notes
    if found.dtype.kind != "U":
        numbers = [str(number) for number in range(len(found))]
        notes += (f"the labels {enumerated(names, _SHOWN)} are renumbered {enumerated(numbers, _SHOWN)}",)
    return replace(_with_labels(source, found), classes=names, notes=notes)


def _with_labels(source: Source, values: np.ndarray) -> Source:
    """Each label replaced by its place in the sorted `values`."""

    def replaced(split: Split) -> Split:
        return Split(split.images, np.searchsorted(values, split.labels).astype(np.int32))

    return replace(
        source,
        train=replaced(source.train),
        validation=None if source.validation is None else replaced(source.validation),
        test=None if source.test is None else replaced(source.test),
    )
