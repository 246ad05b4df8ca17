"""The facts and the labels of all rows of a table of pictures: gathered by all cores, and kept for the next start."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from scalesearch.data.images import DataError
from scalesearch.data.picture_facts import DEEP_MODES, GREY_MODES, facts_of, quiet_pillow
from scalesearch.data.tables import Label
from scalesearch.runtime import interrupts
from scalesearch.runtime.cache import cache_folder, make_private
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.files import write_whole

_VERSION = 1
_KEPT_TABLES = 50
_CHUNK, _CHUNKS_AT_ONCE = 64, 16
_LOG_SECONDS = 10.0
_log = logging.getLogger(__name__)


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
        """One row. Raises `DataError`, which begins with the row's name, if it cannot be read."""

    @abstractmethod
    def name(self, place: int) -> str:
        """Where the row is, for messages."""

    @abstractmethod
    def files(self) -> Sequence[Path] | None:
        """The files that hold the rows; None if rows name others."""

    @abstractmethod
    def columns(self) -> tuple[str, str]:
        """The columns of the pictures and of the labels."""


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What is known of the rows of a split; of broken ones, why.

    Attributes:
        sizes: height and width of each picture, upright.
        digests: of the bytes of each picture.
        kinds: whether each picture is grey, of more than 8 bits, and transparent.
        labels: the label of each.
        broken: why a row cannot be read, by its place.
    """

    sizes: Int[np.ndarray, "n 2"]
    digests: UInt8[np.ndarray, "n 16"]
    kinds: Bool[np.ndarray, "n 3"]
    labels: list[Label]
    broken: dict[int, str]


def facts_of_rows(where: str, rows: Rows, *, decode: bool) -> RowFacts:
    """The facts of all rows. Those of files that did not change are taken from the user's cache folder.

    Args:
        where: the source, for messages.
        rows: the rows of a split.
        decode: see whether each picture can be decoded to the end.
    """
    path = _kept_file(rows, decode)
    facts = None if path is None else _load(path, len(rows))
    if facts is None:
        facts = _gathered(where, rows, decode)
        if path is not None and not facts.broken and None not in facts.labels:
            _save(path, facts)
    return facts


def _gathered(where: str, rows: Rows, decode: bool) -> RowFacts:
    """The facts of all rows. Says now and then how far it is."""
    count = len(rows)
    facts = RowFacts(
        np.zeros((count, 2), np.int64), np.zeros((count, 16), np.uint8), np.zeros((count, 3), bool), [None] * count, {}
    )

    def gather(start: int) -> None:
        for place in range(start, min(start + _CHUNK, count)):
            try:
                content, label = rows.row(place)
                found = facts_of(content, rows.name(place), decode=decode)
            except DataError as error:
                facts.broken[place] = str(error)
                continue
            facts.sizes[place] = found.height, found.width
            facts.digests[place] = np.frombuffer(found.digest, np.uint8)
            facts.kinds[place] = found.mode in GREY_MODES, found.mode in DEEP_MODES, found.transparent
            facts.labels[place] = label

    said = time.monotonic()
    with quiet_pillow(), ThreadPoolExecutor(len(usable_cores())) as pool:
        step = _CHUNK * _CHUNKS_AT_ONCE
        for start in range(0, count, step):
            interrupts.check()
            if time.monotonic() - said > _LOG_SECONDS:
                said = time.monotonic()
                _log.warning("%s: looked at %s of %s pictures", where, f"{start:,}", f"{count:,}")
            list(pool.map(gather, range(start, min(start + step, count), _CHUNK)))
    return facts


def _kept_file(rows: Rows, decode: bool) -> Path | None:
    """Where the facts of these rows are kept; None if a change of the rows could not be noticed."""
    files = rows.files()
    if files is None:
        return None
    try:
        status = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    except OSError:
        return None
    key = hashlib.sha256(repr((_VERSION, len(rows), rows.columns(), decode, status)).encode()).hexdigest()[:32]
    return cache_folder().parent / "tables" / f"{key}.npz"


def _load(path: Path, count: int) -> RowFacts | None:
    """Kept facts; None if the file is missing or not as `_save` writes it."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            facts = RowFacts(arrays["sizes"], arrays["digests"], arrays["kinds"], arrays["labels"].tolist(), {})
    except Exception as error:  # whatever a damaged file leads numpy to: it is only a cache
        if not isinstance(error, FileNotFoundError):
            _log.info("facts of pictures are not taken from %s (%s)", path, error)
        return None
    return facts if [len(facts.sizes), len(facts.digests), len(facts.kinds), len(facts.labels)] == [count] * 4 else None


def _save(path: Path, facts: RowFacts) -> None:
    """Keep facts, and forget those not written for long. Failing to is no error."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            labels = np.array(facts.labels)
            np.savez(stream, sizes=facts.sizes, digests=facts.digests, kinds=facts.kinds, labels=labels)

    with contextlib.suppress(OSError):
        make_private(path.parent)
        write_whole(path, write)
        for old in sorted(path.parent.glob("*.npz"), key=lambda other: other.stat().st_mtime)[:-_KEPT_TABLES]:
            old.unlink(missing_ok=True)
