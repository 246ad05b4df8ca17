"""Files of a data source: found, unpacked, and read into memory only as far as they are known to fit."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from scalesearch.data.images import DataError
from scalesearch.runtime.text import plural, short

GZIP = b"\x1f\x8b"
"""How a gzip file begins."""

LARGEST_RATIO = 1040
"""Deflate packs at most so many bytes into one (1,032), apart from its headers."""

_CHUNK = 2**22


def expanded(source: str, argument: str) -> Path:
    """The path of a source, in which `~` is the user's own folder; whether there is anything is not asked.

    Raises `DataError` for what no file can be called.
    """
    try:
        path = Path(argument).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, `~nobody`
        raise DataError(f"{source}: cannot be found ({_reason(error)})") from None
    return path


def existing(source: str, argument: str, what: str, *, folder: bool | None = None) -> Path:
    """The path of a source's file or folder. Raises `DataError` if there is none.

    Args:
        source: the source, for messages.
        argument: the path; `~` is the user's own folder.
        what: what it must be, for messages.
        folder: whether it must be a folder; None for a folder or a file.
    """
    noun = "folder" if folder else "file or folder" if folder is None else "file"
    try:
        path = Path(argument).expanduser()
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        problem = f"there is no {noun} of that name"
    except (OSError, ValueError, RuntimeError) as error:  # also a name with a zero byte, and `~nobody`
        problem = f"it cannot be found ({_reason(error)})"
    else:
        if (folder is not False and stat.S_ISDIR(mode)) or (not folder and stat.S_ISREG(mode)):
            return path
        problem = "it is a folder" if stat.S_ISDIR(mode) else "it is no folder" if folder else "it is no regular file"
    raise DataError(f"{source}: must be {what}, but {problem}")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).removesuffix(".")


@contextlib.contextmanager
def unpacked(where: str, path: Path) -> Iterator[tuple[BinaryIO, int, bool]]:
    """A file's content, unpacked if it is gzip whatever its name; its bytes; and whether these are only a bound.

    Raises `DataError`, also inside the context, if it cannot be read or is cut short.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            packed = stream.read(len(GZIP)) == GZIP
            stream.seek(0)
            if packed:
                with gzip.open(stream) as content:
                    yield io.BufferedReader(content), LARGEST_RATIO * size, True
            else:
                yield stream, size, False
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def read_array(where: str, stream: BinaryIO, dtype: np.dtype[Any], count: int) -> np.ndarray:
    """So many values from a stream, flat. Raises `DataError` if it ends before, or they do not fit into memory."""
    check_memory(where, count * dtype.itemsize)
    values = np.empty(count, dtype)
    left = values.view(np.uint8).data if count and dtype.itemsize else memoryview(b"")
    while left:
        read = stream.readinto(left[:_CHUNK])  # type: ignore[attr-defined]
        if not read:
            raise DataError(f"{where}: ends {plural(len(left), 'byte')} before what its header promises")
        left = left[read:]
    return values


def check_memory(where: str, needed: int) -> None:
    """Raises `DataError` if so many bytes are more than half of the memory that is free."""
    free = free_memory()
    if needed > free / 2:
        raise DataError(
            f"{where}: must fit into half of the free memory ({free / 2e9:.3g} GB), but its header promises "
            f"{needed / 1e9:,.0f} GB"
        )


def free_memory() -> float:
    """Bytes of memory that a process can have without making others wait; all of it where the system does not say."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")


def beginning(content: bytes) -> str:
    """How a file begins, for messages."""
    return f"it starts with {short(content[:16])}" if content else "it is empty"
