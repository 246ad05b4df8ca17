"""Files that are complete or absent: written to a temporary file in the same folder, then renamed."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

_reading_umask = threading.Lock()


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then rename it to `path`."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with _reading_umask:  # reading it sets it for the whole process: two threads at once could lose it
            umask = os.umask(0)
            os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are private; a result is as readable as any other file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_whole(path, write)
