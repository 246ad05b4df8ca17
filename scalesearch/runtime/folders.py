"""A run folder that one process works in at a time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from scalesearch.errors import InputError
from scalesearch.runtime.files import remove_unfinished

_LOCK = ".lock"
WORKER_LOCK = ".lock-worker"
"""The lock of a worker process, which may outlive the process that started it by seconds."""


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Creates and locks the run folder; removes it if nothing was written.

    Files that killed processes left unfinished are removed. Raises `InputError` if the folder cannot be written, or
    another process has locked it.
    """
    lock = FileLock(folder / _LOCK, blocking=False)
    try:
        existed = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        lock.acquire()
        remove_unfinished(folder)
    except Timeout:
        raise InputError(f"{folder}: another scalesearch command is already using this folder") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from None
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # others may use the folder, or have removed it
            if not existed and all(path.name in (_LOCK, WORKER_LOCK) for path in folder.iterdir()):
                for name in (_LOCK, WORKER_LOCK):
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()
