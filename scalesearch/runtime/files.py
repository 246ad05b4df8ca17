"""Files that are complete or absent: written to a temporary file in the same folder, then renamed.

Only a plain file is ever replaced: a link is followed, and a pipe, a device or an open descriptor is written through.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from scalesearch.errors import InputError

_reading_umask = threading.Lock()
_MOST_LINKS = 40  # as many as Linux follows


def check_file(path: Path) -> None:
    """Raises `InputError` unless `path` is a plain file: a device may have no end, and a pipe waits for its writer."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # also a name that no file can have
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: must be a file, but is {'a folder' if stat.S_ISDIR(mode) else 'no plain one'}")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then rename it to `path`.

    If `path` is a link, the file that it leads to is replaced and the link stays. What is no plain file (a pipe, a
    device, /dev/stdout) is written through once the temporary file is complete. Raises `OSError`; also, as `cp` does,
    for a folder and for a link that leads nowhere.
    """
    with _opened(path) as through:
        if through is not None:
            with tempfile.TemporaryDirectory(prefix="scalesearch-") as folder:
                temporary = Path(folder) / path.name
                write(temporary)
                with temporary.open("rb") as whole:
                    shutil.copyfileobj(whole, through)
            return
    path = path.resolve() if path.is_symlink() else path
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private; a result is as readable as any other file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path, *names: str) -> None:
    """Removes what `write_whole` left of files of these names in processes that were killed while they wrote."""
    for name in names:
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_whole(path, write)


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` create the files of a temporary folder beside `path`, then put them at `path`.

    An empty folder at `path` is used, and so is one with nothing but plain files that are written now as well: it
    comes from an earlier call. Raises `FileExistsError` for any other folder, and `NotADirectoryError` for what is no
    folder.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it exists and is no folder", str(path))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
        folder = Path(name) / "new"
        folder.mkdir(mode=0o777 & ~_umask())
        write(folder)
        new = {each.name for each in folder.iterdir()}
        there = {each.name: each for each in path.iterdir()} if path.exists() else {}
        foreign = sorted(
            name for name, each in there.items() if name not in new or not stat.S_ISREG(each.lstat().st_mode)
        )
        if foreign:
            raise FileExistsError(errno.EEXIST, f"it holds {foreign[0]}, which this export does not write", str(path))
        if not there:
            folder.replace(path)
            return
        for each in sorted(folder.iterdir()):
            each.replace(path / each.name)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | None]:
    """What `path` leads to, opened for writing, if it is no plain file that could be replaced; else None."""
    descriptor = _descriptor(path)
    if descriptor is not None:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            yield stream
        return
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise FileNotFoundError(errno.ENOENT, "a link that leads nowhere", str(path)) from None
        mode = stat.S_IFREG
    if stat.S_ISREG(mode):
        yield None
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with path.open("wb", buffering=0) as stream:
        yield stream


def _descriptor(path: Path) -> int | None:
    """The number of the descriptor of this process that `path` names (/dev/stdout, /dev/fd/3); None for a file.

    Such a path must not be resolved: to open the file behind it again would begin at its start.
    """
    for _ in range(_MOST_LINKS):
        if path.name.isdecimal() and path.parent.resolve() == Path(f"/proc/{os.getpid()}/fd"):
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _umask() -> int:
    with _reading_umask:  # reading it sets it for the whole process: two threads at once could lose it
        umask = os.umask(0)
        os.umask(umask)
    return umask
