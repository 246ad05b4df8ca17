"""The folder of images that are kept on disk: its files, who uses them, and what is removed to make room.

Of each set of images there are `KEY.pixels` (the grey levels, complete), or `KEY.part` (as far as they are made);
`KEY.json` (how many are on the disk for sure, and how often each grey level occurs in them); and `KEY.lock`, which who
makes them holds. A process that has mapped `KEY.pixels` shares a lock on that file, so that nobody removes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Int, UInt8

from scalesearch.runtime import interrupts
from scalesearch.runtime.cache import make_private

if sys.platform != "win32":  # which removes no file that is mapped
    import fcntl

_POLL_SECONDS = 0.2


class CannotKeep(Exception):
    """Images cannot be kept on disk; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """So many images are on the disk for sure, and each grey level occurs so often in each of their channels."""

    images: int
    counts: Int[np.ndarray, "c 256"]


class KeptImages:
    """The files of all sets in `folder`. Where one of the methods cannot write, it raises `CannotKeep`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Creates the folder, private to this user."""
        try:
            make_private(self.folder)
        except OSError as error:
            reason = error.strerror or error
            raise CannotKeep(f"the folder {self.folder} must be yours and writable, but {reason}") from None

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Within the context no other process makes this set; one that does is waited for."""
        lock = self._lock(key)
        with self.writing():
            while True:
                try:
                    lock.acquire(timeout=_POLL_SECONDS)
                    break
                except Timeout:
                    interrupts.check()
        try:
            yield
        finally:
            lock.release()

    def record(self, key: str, shape: tuple[int, int, int, int]) -> Record | None:
        """The record of a set of images (n, r, r, c); None if there is none that can be read, or it has changed.

        Each pixel is counted once, so the counts give away any change of one of them.
        """
        try:
            document = json.loads(self._path(key, "json").read_bytes())
            record = Record(int(document["images"]), np.array(document["counts"], np.int64))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        _, height, width, channels = shape
        if record.counts.shape != (channels, 256) or (record.counts < 0).any():
            return None
        return record if (record.counts.sum(axis=1) == record.images * height * width).all() else None

    def map(self, key: str, shape: tuple[int, ...]) -> UInt8[np.ndarray, "n r r c"] | None:
        """The pixels of a set, which stays as long as they live; None if they are not complete."""
        with contextlib.suppress(OSError, ValueError), self._path(key, "pixels").open("rb") as stream:
            if sys.platform != "win32":
                # The mapping duplicates this open file: the shared lock lives as long as the mapping.
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            pixels = np.memmap(stream, np.uint8, "r", shape=shape)
            with contextlib.suppress(OSError):
                os.utime(self._path(key, "json"))  # when the set was used last
            return pixels
        return None

    def bytes_made(self, key: str) -> int:
        """Bytes of the unfinished file of a set."""
        try:
            return self._path(key, "part").stat().st_size
        except OSError:
            return 0

    @contextlib.contextmanager
    def open_part(self, key: str, size: int) -> Iterator[PartFile]:
        """The unfinished file, cut to `size` bytes, to go on from there."""
        with self.writing():
            handle = os.open(self._path(key, "part"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with self.writing():
                os.ftruncate(handle, size)
                os.lseek(handle, 0, os.SEEK_END)
            yield PartFile(self, key, handle)
        finally:
            os.close(handle)

    def complete(self, key: str) -> None:
        """Gives the file of a set, now complete, its last name."""
        with self.writing():
            self._path(key, "part").replace(self._path(key, "pixels"))

    def write_record(self, key: str, record: Record) -> None:
        """Replaces the record of a set."""
        temporary = self._path(key, "new")
        with self.writing():
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                json.dump({"images": record.images, "counts": record.counts.tolist()}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._path(key, "json"))

    def size(self) -> tuple[int, int]:
        """How many sets there are, and how many bytes they take."""
        sets = self._sets()
        return len(sets), sum(each.bytes for each in sets)

    def make_room(self, needed: int, wanted: Set[str], limit: float, spare: float) -> float:
        """Removes sets that nobody uses, those first that were not used for longest, as far as it must.

        Args:
            needed: bytes to be written.
            wanted: keys of sets that stay.
            limit: bytes that all sets may take.
            spare: bytes that stay free on the disk.

        Returns:
            The bytes that can be written now.
        """
        sets = self._sets()
        total, free = sum(each.bytes for each in sets), self._free(spare)
        for each in sorted(sets, key=lambda each: each.used):
            if free >= needed and total + needed <= limit:
                break
            if each.key not in wanted and self._remove(each.key):
                free, total = self._free(spare), total - each.bytes
        return free

    def remove_files(self, key: str) -> None:
        """Removes the files of a set, whose lock the caller holds."""
        for kind in ("pixels", "part", "json", "new"):
            self._path(key, kind).unlink(missing_ok=True)

    def _free(self, spare: float) -> float:
        return max(0.0, shutil.disk_usage(self.folder).free - spare)

    def _remove(self, key: str) -> bool:
        """Removes a set unless someone makes or uses it."""
        try:
            with self._lock(key).acquire(timeout=0):
                pixels = self._path(key, "pixels")
                if sys.platform != "win32" and pixels.exists():
                    with pixels.open("r+b") as stream:
                        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.remove_files(key)
        except (OSError, Timeout):
            return False
        return True

    def _sets(self) -> list[_Set]:
        files: dict[str, list[os.stat_result]] = {}
        for path in self.folder.glob("*.*"):
            if path.suffix in (".pixels", ".part", ".json"):
                with contextlib.suppress(OSError):  # another process may have removed it
                    files.setdefault(path.stem, []).append(path.stat())
        return [
            _Set(key, sum(each.st_size for each in found), max(each.st_mtime for each in found))
            for key, found in files.items()
        ]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Within the context an error of the system becomes `CannotKeep`."""
        try:
            yield
        except OSError as error:
            raise CannotKeep(f"{self.folder}: {error.strerror or error}") from None

    def _lock(self, key: str) -> FileLock:
        return FileLock(self._path(key, "lock"), mode=0o600)

    def _path(self, key: str, kind: str) -> Path:
        return self.folder / f"{key}.{kind}"


class PartFile:
    """The unfinished file of a set, open at its end."""

    def __init__(self, kept: KeptImages, key: str, handle: int) -> None:
        self._kept, self._key, self._handle = kept, key, handle

    def write(self, images: UInt8[np.ndarray, "m r r c"]) -> None:
        """Appends images."""
        left = np.ascontiguousarray(images).reshape(-1).data
        with self._kept.writing():
            while left:  # a write may take a part only
                left = left[os.write(self._handle, left) :]

    def save(self, record: Record) -> None:
        """Records how far it is, once that is on the disk."""
        with self._kept.writing():
            os.fsync(self._handle)
        self._kept.write_record(self._key, record)


@dataclass(frozen=True, slots=True)
class _Set:
    key: str
    bytes: int
    used: float
