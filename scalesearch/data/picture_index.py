"""The facts of all pictures of a folder: gathered by all cores, and kept for the next start."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scalesearch.data.images import DataError
from scalesearch.data.picture_facts import PictureFacts, facts_of, quiet_pillow
from scalesearch.data.picture_listing import PictureFile, printable
from scalesearch.runtime import interrupts
from scalesearch.runtime.cache import index_folder, make_private
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.files import write_whole

LARGEST_FILE = 2**30
"""Bytes of a picture's file. Larger ones are not read into memory."""

_VERSION = 1
_KEPT_FOLDERS = 50
_CHUNK = 64
_LOG_SECONDS = 10.0
_log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    """What is kept of a file."""

    size: int
    modified: int
    decoded: bool
    facts: PictureFacts


def read_picture(folder: Path, path: str, name: str) -> bytes:
    """The bytes of a picture's file, called `name` in messages. Raises `DataError` if it cannot be read."""
    try:
        if not stat.S_ISREG((folder / path).stat().st_mode):  # opening a pipe would wait for its writer
            raise DataError(f"{name}: not a file")
        with (folder / path).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > LARGEST_FILE:
                raise DataError(f"{name}: a picture's file must have at most {LARGEST_FILE:,} bytes")
            return stream.read(size)  # memory is taken for as many bytes as are asked for
    except DataError:
        raise
    except (OSError, ValueError) as error:  # also a name that no file can have
        raise DataError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def facts_of_files(
    where: str, folder: Path, files: Sequence[PictureFile], *, decode: bool
) -> list[PictureFacts | DataError]:
    """The facts of each file, or why there are none.

    Facts of files that did not change since are taken from the user's cache folder; the others are gathered and put
    there, also if an interrupt ends this early.

    Args:
        where: the source, for messages.
        folder: the folder that the paths are relative to.
        files: the pictures.
        decode: see whether each can be decoded to the end.
    """
    kept = _load(folder)
    facts: list[PictureFacts | DataError | None] = [None] * len(files)
    missing: list[int] = []
    for place, file in enumerate(files):
        entry = kept.get(file.path)
        if entry and entry[:2] == file[1:] and entry.decoded >= decode:
            facts[place] = entry.facts
        else:
            missing.append(place)
    if missing:
        try:
            for place, found in zip(missing, _gathered(where, folder, files, missing, decode), strict=True):
                facts[place] = found
                if isinstance(found, PictureFacts):
                    file = files[place]
                    kept[file.path] = _Entry(file.size, file.modified, decode, found)
        finally:
            _save(folder, {file.path: kept[file.path] for file in files if file.path in kept})
    return [found for found in facts if found is not None]


def _gathered(
    where: str, folder: Path, files: Sequence[PictureFile], places: Sequence[int], decode: bool
) -> Iterator[PictureFacts | DataError]:
    """The facts of the files at these places, in their order. Says now and then how far it is."""

    def gather(place: int) -> PictureFacts | DataError:
        path = files[place].path
        name = f"{where}: {printable(path)}"
        try:
            return facts_of(read_picture(folder, path, name), name, decode=decode)
        except DataError as error:
            return error

    said = time.monotonic()
    with quiet_pillow(), ThreadPoolExecutor(len(usable_cores())) as pool:
        for start in range(0, len(places), _CHUNK):
            interrupts.check()
            if time.monotonic() - said > _LOG_SECONDS:
                said = time.monotonic()
                _log.warning("%s: looked at %s of %s pictures", where, f"{start:,}", f"{len(places):,}")
            yield from pool.map(gather, places[start : start + _CHUNK])


def _index_file(folder: Path) -> Path:
    """Where the facts of a folder are kept."""
    key = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:32]
    return index_folder() / f"{key}.npz"


def _load(folder: Path) -> dict[str, _Entry]:
    """What is kept of a folder; nothing if the file is missing or not as `_save` writes it."""
    try:
        with _index_file(folder).open("rb") as stream:
            arrays = np.load(stream, allow_pickle=False)
            if arrays["version"] != _VERSION:
                return {}
            paths = os.fsdecode(arrays["paths"].tobytes()).split("\0")
            rows = zip(
                arrays["files"].tolist(),
                arrays["sides"].tolist(),
                arrays["modes"].tolist(),
                map(bytes, arrays["digests"]),
                strict=True,
            )
            return {
                path: _Entry(
                    size, modified, bool(decoded), PictureFacts(height, width, mode, bool(transparent), digest)
                )
                for path, ((size, modified, decoded, transparent), (height, width), mode, digest) in zip(
                    paths, rows, strict=True
                )
            }
    except Exception as error:  # whatever a damaged file leads numpy to: it is only a cache
        if not isinstance(error, FileNotFoundError):
            _log.info("facts of pictures are not taken from %s (%s)", _index_file(folder), error)
        return {}


def _save(folder: Path, entries: dict[str, _Entry]) -> None:
    """Keep what is known of a folder, and forget folders that were not read for long. Failing to is no error."""
    path = _index_file(folder)
    if not entries:
        return
    arrays: dict[str, Any] = {
        "version": np.array(_VERSION),
        "paths": np.frombuffer(os.fsencode("\0".join(entries)), np.uint8),
        "files": np.array(
            [(entry.size, entry.modified, entry.decoded, entry.facts.transparent) for entry in entries.values()],
            np.int64,
        ),
        "sides": np.array([entry.facts[:2] for entry in entries.values()], np.int64),
        "modes": np.array([entry.facts.mode for entry in entries.values()]),
        "digests": np.array([list(entry.facts.digest) for entry in entries.values()], np.uint8),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)

    with contextlib.suppress(OSError):
        make_private(path.parent)
        write_whole(path, write)
        others = sorted(path.parent.glob("*.npz"), key=lambda other: other.stat().st_mtime)
        for old in others[:-_KEPT_FOLDERS]:
            old.unlink(missing_ok=True)
