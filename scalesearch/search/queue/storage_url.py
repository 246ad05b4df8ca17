"""What a user gives as a storage: a URL, or `@FILE` that holds one. It is shown without its password."""

from __future__ import annotations

import os
import re
import stat
import warnings
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from scalesearch.errors import InputError, StorageError

VARIABLE = "SCALESEARCH_STORAGE"
"""The environment variable from which commands take the storage if there is no `--storage`."""

_LONGEST_URL = 4096
_SECRETS = ("password", "sslpassword")  # libpq's, as keys of a query


def storage_url(given: str) -> str:
    """The SQLAlchemy URL that a user means.

    Args:
        given: a URL, or `@FILE`, whose first line is the URL. `postgresql://…` and `postgres://…` get the driver that
            `scalesearch[postgresql]` installs. What a PostgreSQL URL leaves out libpq takes from `PGHOST`,
            `PGPASSWORD`, `~/.pgpass` and so on, as psql does: `postgresql+psycopg://` alone leaves out everything.

    Raises:
        InputError: nothing is given, or the file cannot be read.
        StorageError: the password has an `@` that is not encoded; libraries would take a part of it for the host.

    Example:
        >>> storage_url("postgres://me@host/database")
        'postgresql+psycopg://me@host/database'
    """
    url = _first_line(given[1:]) if given.startswith("@") else given.strip()
    if not url:
        raise InputError("the storage must be a URL or @FILE, but got nothing")
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    parsed = _parsed(url)
    if parsed is not None and "@" in f"{parsed.host}{parsed.database}" and parsed.get_backend_name() != "sqlite":
        raise StorageError(f"the storage URL {hidden(url)} cannot be used: write each @ of the password as %40")
    return url


def has_password(url: str) -> bool:
    """Whether a password stands in the URL.

    Example:
        >>> has_password("postgresql+psycopg://me@host/database?password=secret")
        True
    """
    parsed = _parsed(url)
    if parsed is None:
        return ":" in url.partition("://")[2].rpartition("@")[0]
    return parsed.password is not None or any(key in parsed.query for key in _SECRETS)


def hidden(url: str) -> str:
    """The URL without its password, and without its query, which may hold one.

    Example:
        >>> hidden("postgresql+psycopg://me:secret@host/database")
        'postgresql+psycopg://me@host/database'
    """
    head, separator, tail = url.partition("://")
    if not separator:
        return repr(url.rpartition("@")[2])
    parsed = _parsed(url)
    if head.startswith("sqlite"):
        return f"{head}:///{(parsed.database if parsed else None) or ''}"
    if parsed is not None and "@" not in f"{parsed.host}{parsed.database}":
        shown = URL.create(parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database)
        return shown.render_as_string()
    # What SQLAlchemy cannot parse, or parses wrongly: all before the last "@" may be the password.
    login, at, rest = tail.rpartition("@")
    return f"{head}{separator}{login.partition(':')[0]}{at}{rest.partition('?')[0]}"


def _parsed(url: str) -> URL | None:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None


def _first_line(name: str) -> str:
    """The first line of a file. A note says so if it holds a password that other users can read."""
    try:
        path = Path(name).expanduser()
        with path.open(encoding="utf-8-sig") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.readline(_LONGEST_URL).strip()
    except OSError as error:
        raise InputError(f"storage @{name}: cannot be read ({error.strerror})") from None
    except (RuntimeError, ValueError) as error:
        reason = "not a text file" if isinstance(error, ValueError) else "no such user"
        raise InputError(f"storage @{name}: cannot be read ({reason})") from None
    if not line:
        raise InputError(f"storage @{name}: the first line must be a URL, but it is empty")
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH) and has_password(line):
        warnings.warn(f"{name} holds a password and other users can read it; chmod 600 {name}", stacklevel=3)
    return line
