"""Whether another process of this machine still lives: each holds a file lock, which ends with it.

A lock cannot be mistaken as a process id can, which another process may have by now.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scalesearch.runtime.cache import make_private

_SUFFIX = ".lock"
_KEPT_SECONDS = 30 * 24 * 3600.0  # longer than a study runs


@contextlib.contextmanager
def present() -> Iterator[dict[str, Any]]:
    """Within the context this process is present; yields what `has_ended` needs to know, as a JSON object.

    Its keys are `host`, `process` (the process id) and `lock` (a path; None where no file can be locked).
    """
    presence: dict[str, Any] = {"host": platform.node(), "process": os.getpid(), "lock": None}
    path = _folder() / f"{uuid.uuid4().hex}{_SUFFIX}"
    lock = FileLock(path, blocking=False)
    with contextlib.suppress(OSError, NotImplementedError):  # without a lock, others must judge by other signs
        make_private(path.parent)
        _remove_old(path.parent)
        lock.acquire()
        presence["lock"] = str(path)
    try:
        yield presence
    except BaseException:
        lock.release()  # the file stays: others may still have to see that this process has ended
        raise
    if lock.is_locked:
        path.unlink(missing_ok=True)
        lock.release()


def has_ended(presence: Mapping[str, Any]) -> bool:
    """Whether the process is certainly gone: it ran on this machine, and nobody holds its lock.

    Example:
        >>> with present() as presence:
        ...     has_ended(presence)
        False
    """
    name = Path(presence.get("lock") or "").name
    path = _folder() / name
    if not name.endswith(_SUFFIX) or presence.get("host") != platform.node() or not path.exists():
        return False
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except (OSError, NotImplementedError, Timeout):
        return False
    lock.release()  # the file stays: others look, too
    return True


def _folder() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    return Path(tempfile.gettempdir()) / f"scalesearch-{user}"


def _remove_old(folder: Path) -> None:
    """Removes what processes left that ended long ago, when nobody asks for them any more."""
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(OSError, NotImplementedError, Timeout):
            if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                with FileLock(path, blocking=False):  # it may live still
                    path.unlink()
