"""The user's cache folder: compiled programs, in a folder for each release of jaxlib, and decoded images.

`SCALESEARCH_CACHE_DIR` takes the place of the user's cache folder (`XDG_CACHE_HOME` on Linux).
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import platformdirs

from scalesearch.runtime.files import remove_unfinished

_PREFIX = "xla-jaxlib-"
_ROOM = 2**20  # bytes: the kernels' library takes a third of it
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of compiled programs for this release of jaxlib, which may not exist yet."""
    return _base() / f"{_PREFIX}{version('jaxlib')}"


def image_folder() -> Path:
    """The folder of decoded images, which may not exist yet."""
    return _base() / "images"


def index_folder() -> Path:
    """The folder of what is known of the pictures in users' folders, which may not exist yet."""
    return _base() / "folders"


def _base() -> Path:
    override = os.environ.get("SCALESEARCH_CACHE_DIR")
    if override:
        return Path(override).expanduser().absolute()
    return platformdirs.user_cache_path("scalesearch", appauthor=False)


def folder_in_use() -> Path | None:
    """The cache folder, created and closed to other users, since cached programs are executed.

    Returns None, with a warning, if the folder cannot be created, written or trusted.
    """
    folder = cache_folder()
    try:
        make_private(folder)
        check_room(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        warnings.warn(
            f"compiled programs are not kept: the cache folder {folder} must be yours and writable, but {reason}; "
            f"SCALESEARCH_CACHE_DIR names another",
            stacklevel=2,
        )
        return None
    _log.info("compiled programs are kept in %s", folder)
    return folder


def make_private(folder: Path) -> None:
    """Create `folder`, writable for this user and closed to others, and remove what killed processes left unfinished.

    Raises `OSError` if that is not possible.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = folder.stat()
        if status.st_uid != os.getuid():
            raise PermissionError(1, f"it belongs to user {status.st_uid}")
        if stat.S_IMODE(status.st_mode) & 0o022:
            raise PermissionError(1, "others may write to it")
        if stat.S_IMODE(status.st_mode) != 0o700:
            folder.chmod(0o700)
    remove_unfinished(folder)
    with tempfile.TemporaryFile(dir=folder):
        pass


def check_room(folder: Path) -> None:
    """Raises `OSError` if nothing can be written to `folder`: the disk is full, for example."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(bytes(_ROOM))
        stream.flush()
