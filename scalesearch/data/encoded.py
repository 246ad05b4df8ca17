"""Tables of encoded pictures and their labels as a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from scalesearch.data.images import DataError, Fit, Pictures, Source, Split
from scalesearch.data.picture_facts import open_known
from scalesearch.data.picture_notes import broken_notes, conversion_notes
from scalesearch.data.row_facts import Rows, facts_of_rows
from scalesearch.data.tables import any_labels, checked_labels, unlabelled
from scalesearch.study.sections import DataSection

_DECODED_BYTES = 2**30
"""Files of no more bytes are decoded once at the start, so that a broken picture is found before anything else."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded(Pictures):
    """Pictures in rows of a table.

    Attributes:
        where: the source, for messages.
        rows: the table.
        places: the row of each picture.
    """

    where: str
    rows: Rows
    places: Int[np.ndarray, " n"]
    channels: int
    fit: Fit
    sizes: Int[np.ndarray, "n 2"]
    hashes: UInt8[np.ndarray, "n 16"]

    def __getitem__(self, index: Int[np.ndarray, " m"]) -> Self:
        return replace(self, places=self.places[index], sizes=self.sizes[index], hashes=self.hashes[index])

    def open(self, place: int) -> Image.Image:
        """One picture, whose `filename` is where it is."""
        row = int(self.places[place])
        name = f"{self.where}: {self.rows.name(row)}"
        return open_known(self.rows.row(row).content, name, self.hashes[place].tobytes())


def read_rows(
    where: str, rows: Mapping[str, Rows], classes: tuple[str, ...], notes: tuple[str, ...], section: DataSection
) -> Source:
    """The pictures and labels of each split. A validation or test set without labels is left out.

    Args:
        where: the source, for messages.
        rows: the splits by name: `train`, and `validation` and `test` if there are.
        classes: the name of each class, if labels are their places; else empty.
        notes: what was left out before.
        section: says how pictures are made square, and whether broken ones are skipped.

    Raises:
        DataError: a picture is broken, or a label is missing or names no class.
    """
    facts = {
        role: facts_of_rows(where, split, decode=section.skip_broken or _is_small(split))
        for role, split in rows.items()
    }
    broken = [seen.broken[place].removeprefix(f"{where}: ") for seen in facts.values() for place in sorted(seen.broken)]
    notes += broken_notes(where, broken, section.skip_broken)
    kept = {
        role: np.setdiff1d(np.arange(len(seen.sizes)), np.array([*seen.broken], np.int64))
        for role, seen in facts.items()
    }
    kinds = np.concatenate([seen.kinds[kept[role]] for role, seen in facts.items()])
    grey, deep, transparent = kinds.sum(0).tolist()
    notes += conversion_notes(len(kinds), grey, deep, transparent)
    channels = 1 if kinds[:, 0].all() else 3
    splits: dict[str, Split | None] = {"train": None, "validation": None, "test": None}
    for role, seen in facts.items():
        places = kept[role]
        labels = [seen.labels[place] for place in places.tolist()]
        if role != "train" and not labels:
            notes += (f"the {role} set has no pictures, and is left out",)
            continue
        if role != "train" and not any_labels(labels):
            notes += (unlabelled(role),)
            continue
        numbers = checked_labels(where, partial(_name, rows[role], places), labels, classes)
        sizes, digests = seen.sizes[places], seen.digests[places]
        splits[role] = Split(Encoded(where, rows[role], places, channels, section.fit, sizes, digests), numbers)
    if splits["train"] is None or not len(splits["train"]):
        raise DataError(f"{where}: must have pictures to train on, but the split train has none")
    return Source(splits["train"], splits["validation"], splits["test"], classes, notes)


def _name(rows: Rows, places: Int[np.ndarray, " n"], place: int) -> str:
    return rows.name(int(places[place]))


def _is_small(rows: Rows) -> bool:
    files = rows.files()
    return files is not None and sum(path.stat().st_size for path in files) <= _DECODED_BYTES
