"""The persistent cache of compiled programs: a folder of the user's own, one for each release of jaxlib."""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_MIN_COMPILE_SECONDS = 0.1  # below this a look-up saves nothing


def cache_folder() -> Path:
    """`$SCALESEARCH_CACHE_DIR`, else `scalesearch` in `$XDG_CACHE_HOME` or `~/.cache`; in it, jaxlib's release."""
    override, shared = os.environ.get("SCALESEARCH_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    if override:
        base = Path(override).expanduser().absolute()
    else:
        # The XDG specification: a relative path is to be ignored.
        home = Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache"
        base = home / "scalesearch"
    return base / f"xla-jaxlib-{version('jaxlib')}"


def enable_compilation_cache() -> Path:
    """Turns the cache on and returns its folder, which only the user may enter: cached programs are run.

    Warns and leaves the cache off where the folder cannot be made, written or trusted.
    """
    folder = cache_folder()
    try:
        _make_private(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        warnings.warn(
            f"compiled programs are not kept: the cache folder {folder} must be yours and writable, but {reason}; "
            f"SCALESEARCH_CACHE_DIR names another",
            stacklevel=2,
        )
        return folder
    settings: dict[str, Any] = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": _MIN_COMPILE_SECONDS,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]  # jax does not type it
    compilation_cache.reset_cache()  # one that is open already would stay in its old folder
    return folder


def _make_private(folder: Path) -> None:
    """Raises `OSError` unless `folder` ends up as the user's own, writable, and closed to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = folder.stat()
        if status.st_uid != os.getuid():
            raise PermissionError(1, f"it belongs to user {status.st_uid}")
        if stat.S_IMODE(status.st_mode) != 0o700:
            folder.chmod(0o700)
    with tempfile.TemporaryFile(dir=folder):
        pass
