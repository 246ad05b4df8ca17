"""Tables of encoded pictures and their labels as a source: each picture is looked at once, by all cores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from scalesearch.data.images import DataError, Fit, Pictures, Source, Split
from scalesearch.data.picture_facts import GREY_MODES, facts_of, open_picture
from scalesearch.data.tables import Label, any_labels, checked_labels, unlabelled
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.text import plural
from scalesearch.study.sections import DataSection

_CHUNK = 64
_NAMED = 3


class Row(NamedTuple):
    """The bytes of an image file, and its label."""

    content: bytes
    label: Label


class Rows(ABC):
    """The rows of a split. Read from several threads."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, place: int) -> Row:
        """One row. Raises `DataError` if it cannot be read, `OSError` if its picture cannot."""

    @abstractmethod
    def name(self, place: int) -> str:
        """Where the row is, for messages."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded(Pictures):
    """Pictures in rows of a table."""

    rows: Rows
    places: Int[np.ndarray, " n"]
    channels: int
    fit: Fit
    sizes: Int[np.ndarray, "n 2"]
    hashes: UInt8[np.ndarray, "n 16"]

    def __getitem__(self, index: Int[np.ndarray, " m"]) -> Self:
        return replace(self, places=self.places[index], sizes=self.sizes[index], hashes=self.hashes[index])

    def open(self, place: int) -> Image.Image:
        """One picture."""
        return open_picture(self.rows.row(int(self.places[place])).content, self.name(place))

    def name(self, place: int) -> str:
        """Where a picture is, for messages."""
        return self.rows.name(int(self.places[place]))


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
    seen = {role: _Seen(where, split, section.skip_broken) for role, split in rows.items()}
    channels = 1 if all(split.grey.all() for split in seen.values()) else 3
    splits: dict[str, Split | None] = {"train": None, "validation": None, "test": None}
    for role, split in seen.items():
        if split.broken:
            shown = "; ".join(split.broken[:_NAMED]) + "; …" * (len(split.broken) > _NAMED)
            notes += (f"{plural(len(split.broken), 'broken picture')} left out of {role}: {shown}",)
        if role != "train" and not any_labels(split.labels):
            notes += (unlabelled(role),)
            continue
        pictures = Encoded(split.rows, split.places, channels, section.fit, split.sizes, split.hashes)
        splits[role] = Split(pictures, checked_labels(where, pictures.name, split.labels, classes))
    assert splits["train"] is not None
    return Source(splits["train"], splits["validation"], splits["test"], classes, notes)


class _Seen:
    """What a look at each picture of a split found. Broken ones are an error, or noted if `skip_broken`."""

    def __init__(self, where: str, rows: Rows, skip_broken: bool) -> None:
        self.where, self.rows, self._decode = where, rows, skip_broken
        count = len(rows)
        self.sizes, self.hashes = np.zeros((count, 2), np.int32), np.zeros((count, 16), np.uint8)
        self.grey = np.zeros(count, bool)
        self.labels: list[Label] = [None] * count
        with ThreadPoolExecutor(len(usable_cores())) as pool:
            found = list(pool.map(self._look, range(0, count, _CHUNK)))
        broken = dict(pair for part in found for pair in part)
        self.broken = list(broken.values())
        if broken and not skip_broken:
            pictures = plural(len(broken), "broken picture")
            raise DataError(f"{where}: {self.broken[0]} (`skip_broken = true` leaves out {pictures})")
        kept = np.setdiff1d(np.arange(count), np.array(list(broken), np.int64))
        self.places, self.sizes, self.hashes, self.grey = kept, self.sizes[kept], self.hashes[kept], self.grey[kept]
        self.labels = [self.labels[place] for place in kept]

    def __len__(self) -> int:
        return len(self.places)

    def _look(self, start: int) -> list[tuple[int, str]]:
        """Look at a few pictures: those that are broken, and why."""
        broken = []
        for place in range(start, min(start + _CHUNK, len(self.rows))):
            name = self.rows.name(place)
            try:
                content, self.labels[place] = self.rows.row(place)
            except OSError as error:
                broken.append((place, f"{name}: {error}"))
                continue
            try:
                facts = facts_of(content, name, decode=self._decode)
            except DataError as error:
                broken.append((place, str(error)))
                continue
            self.sizes[place] = facts.height, facts.width
            self.hashes[place] = np.frombuffer(facts.digest, np.uint8)
            self.grey[place] = facts.mode in GREY_MODES
        return broken
