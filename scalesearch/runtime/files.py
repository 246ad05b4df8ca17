"""Files that are complete or absent: written to a temporary file in the same folder, synced to the disk, then renamed.

Only a plain file is ever replaced: a link is followed, and a pipe, a device or an open descriptor is written through.
What a killed process leaves is recognised by its name and by its lock, which ended with the process.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from scalesearch.errors import InputError

if sys.platform != "win32":  # which removes no file that is open
    import fcntl

_UNFINISHED = ".unfinished"
_reading_umask = threading.Lock()
_MOST_LINKS = 40  # as many as Linux follows
_LARGEST_DOCUMENT, _MOST_LEVELS = 2**24, 100


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


def read_document(path: Path, parse: Callable[[str], Any]) -> Any:
    """What `parse` makes of the text of a JSON or TOML file, without a byte-order mark.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8, cannot be parsed, is nested too deeply for those who use it, or is larger than any
            such file: a device may have no end.
    """
    with path.open("rb") as stream:
        content = stream.read(_LARGEST_DOCUMENT + 1)
    if len(content) > _LARGEST_DOCUMENT:
        raise ValueError(f"it has more than {_LARGEST_DOCUMENT:,} bytes")
    try:
        document = parse(content.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [document]
    for _ in range(_MOST_LEVELS):
        inner = [
            value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list)
        ]
        level = [value for values in inner for value in values]
    if level:
        raise ValueError("nested too deeply")
    return document


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
    remove_unfinished(path.parent, path.name)
    while not _replaced(path, write):
        pass


def _replaced(path: Path, write: Callable[[Path], object]) -> bool:
    """Writes a file for `write_whole`; False if another process took it for one left behind, before it was locked."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED)
    temporary = Path(name)
    try:
        os.close(handle)
        with _held(temporary) as is_there:
            if is_there:
                write(temporary)
                temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private; a result is as readable as any other
                _sync(temporary)
                temporary.replace(path)
                _sync(path.parent)
        return is_there
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Removes what `write_whole` and `write_folder` left in `folder` in processes that were killed while they wrote.

    What another process is writing at this moment stays. Does nothing where files cannot be locked or removed.

    Args:
        folder: where the files were to be.
        name: the file that was to be written; None for any.
    """
    for path in folder.glob(f".{'*' if name is None else glob.escape(name)}.*{_UNFINISHED}"):
        with contextlib.suppress(OSError), _held(path, required=True):  # it may be gone
            shutil.rmtree(path) if path.is_dir() else path.unlink()


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
    remove_unfinished(path.parent, path.name)
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED) as name,
        _held(Path(name)),
    ):
        folder = Path(name) / "new"
        folder.mkdir(mode=0o777 & ~_umask())
        write(folder)
        for each in folder.rglob("*"):
            _sync(each)
        _sync(folder)
        new = {each.name for each in folder.iterdir()}
        there = {each.name: each for each in path.iterdir()} if path.exists() else {}
        foreign = sorted(
            name for name, each in there.items() if name not in new or not stat.S_ISREG(each.lstat().st_mode)
        )
        if foreign:
            raise FileExistsError(errno.EEXIST, f"it holds {foreign[0]}, which this export does not write", str(path))
        if not there:
            folder.replace(path)
            _sync(path.parent)
            return
        for each in sorted(folder.iterdir()):
            each.replace(path / each.name)
        _sync(path)


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


@contextlib.contextmanager
def _held(path: Path, *, required: bool = False) -> Iterator[bool]:
    """Within the context a file or folder is locked, where the system can: a lock ends with its process.

    Yields whether it is there; another process may have removed it before it was locked. Raises `OSError` if the lock
    is `required` and not possible, or another process has locked it.
    """
    if sys.platform == "win32":
        if required:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        yield True
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        with contextlib.nullcontext() if required else contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if required else 0))
        yield path.exists()
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk; for a folder, where the system can.

    Else a power cut could leave a file that has its name but not its content.
    """
    folder, windows = path.is_dir(), sys.platform == "win32"
    if folder and windows:
        return
    with contextlib.suppress(OSError) if folder else contextlib.nullcontext():
        handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
