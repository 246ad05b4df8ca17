"""The folder of what was compiled: the user's own, one for each release of jaxlib."""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

_PREFIX = "xla-jaxlib-"
_in_use: list[Path] = []  # the folder, once the cache is on


def cache_folder() -> Path:
    """`$SCALESEARCH_CACHE_DIR`, else `scalesearch` in `$XDG_CACHE_HOME` or `~/.cache`; in it, jaxlib's release."""
    override, shared = os.environ.get("SCALESEARCH_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    if override:
        base = Path(override).expanduser().absolute()
    else:
        # The XDG specification: a relative path is to be ignored.
        home = Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache"
        base = home / "scalesearch"
    return base / f"{_PREFIX}{version('jaxlib')}"


def folders() -> list[Path]:
    """The folders of all releases of jaxlib beside the one in use, and it."""
    return [each for folder in _in_use for each in folder.parent.glob(f"{_PREFIX}*")]


def enable_compilation_cache() -> Path:
    """Turns the cache on and returns its folder, which only the user may enter: cached programs are run.

    Warns and leaves the cache off where the folder cannot be made, written or trusted.
    """
    _in_use.clear()
    folder = cache_folder()
    try:
        make_private(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        warnings.warn(
            f"compiled programs are not kept: the cache folder {folder} must be yours and writable, but {reason}; "
            f"SCALESEARCH_CACHE_DIR names another",
            stacklevel=2,
        )
        return folder
    _in_use[:] = [folder]
    return folder


def folder_in_use() -> Path | None:
    """The folder, once this process has turned the cache on."""
    return _in_use[0] if _in_use else None


def make_private(folder: Path) -> None:
    """Raises `OSError` unless `folder` ends up as the user's own, writable, and closed to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = folder.stat()
        if status.st_uid != os.getuid():
            raise PermissionError(1, f"it belongs to user {status.st_uid}")
        if stat.S_IMODE(status.st_mode) & 0o022:
            raise PermissionError(1, "others may write to it")
        if stat.S_IMODE(status.st_mode) != 0o700:
            folder.chmod(0o700)
    with tempfile.TemporaryFile(dir=folder):
        pass
