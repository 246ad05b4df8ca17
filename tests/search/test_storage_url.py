"""What a user gives as a storage: URLs, files, and libpq's own ways to a password; no password is shown."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from scalesearch.errors import InputError, StorageError
from scalesearch.search.queue.storage import open_storage, study_names
from scalesearch.search.queue.storage_url import has_password, hidden, storage_url

LIBPQ = ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgresql://me@host/db", "postgresql+psycopg://me@host/db"),
        ("postgres://me@host/db?sslmode=require", "postgresql+psycopg://me@host/db?sslmode=require"),
        ("postgresql+psycopg://", "postgresql+psycopg://"),
        (" sqlite:///a@b/study.db\n", "sqlite:///a@b/study.db"),
    ],
)
def test_a_url_as_users_paste_it(given: str, meant: str) -> None:
    assert storage_url(given) == meant
    assert storage_url(meant) == meant


@pytest.mark.parametrize(
    ("url", "shown", "secret"),
    [
        ("postgresql+psycopg://me:s3cret@host:5432/db", "postgresql+psycopg://me@host:5432/db", True),
        ("postgresql+psycopg://me:s3%40cret@host/db", "postgresql+psycopg://me@host/db", True),
        ("postgresql+psycopg://me:s3?cret@host/db", "postgresql+psycopg://me@host/db", True),
        ("postgresql+psycopg://me:s3cret@host:port/db", "postgresql+psycopg://me@host:port/db", True),
        ("postgresql+psycopg://me@host/db?password=s3@cret", "postgresql+psycopg://me@host/db", True),
        ("postgresql+psycopg://host/db?password=s3@cret", "postgresql+psycopg://host/db", True),
        ("postgresql+psycopg://[::1]:5432/db", "postgresql+psycopg://[::1]:5432/db", False),
        ("postgresql+psycopg://me@host:port/db", "postgresql+psycopg://me@host:port/db", False),
        ("postgresql+psycopg://", "postgresql+psycopg://", False),
        ("sqlite:///a:b@c/study.db", "sqlite:///a:b@c/study.db", False),
    ],
)
def test_a_password_is_seen_and_never_shown(url: str, shown: str, secret: bool) -> None:
    assert (hidden(url), has_password(url)) == (shown, secret)


@pytest.mark.parametrize("url", ["postgresql://me:p@s3cret@host/db", "postgresql://me:p@s3/cret@host/db"])
def test_an_at_sign_in_a_password_must_be_encoded(url: str) -> None:
    """SQLAlchemy takes the rest of such a password for the host, and a message would name the host."""
    with pytest.raises(StorageError, match="each @ of the password as %40") as caught:
        storage_url(url)
    assert "cret" not in str(caught.value)


def test_a_file_holds_the_url_in_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "storage"
    file.write_text("\ufeffpostgres://me:s3cret@host/db \r\nmore\n", encoding="utf-8")
    file.chmod(0o600)
    assert storage_url(f"@{file}") == "postgresql+psycopg://me:s3cret@host/db"
    file.chmod(0o640)
    with pytest.warns(UserWarning, match=r"storage holds a password and other users can read it; chmod 600 ") as told:
        storage_url(f"@{file}")
    assert "s3cret" not in str(told[0].message)
    file.write_text("postgres://me@host/db", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        storage_url(f"@{file}")


def test_no_more_of_a_file_is_read_than_a_url_can_be_long(tmp_path: Path) -> None:
    """It may be a device that has no end."""
    (tmp_path / "file").write_text("x" * 100_000, encoding="utf-8")
    assert len(storage_url(f"@{tmp_path / 'file'}")) < 5000


def test_a_storage_that_is_not_given_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\npostgres://host/db\n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for given, told in (
        ("", "but got nothing"),
        ("@", "cannot be read"),
        (f"@{tmp_path}", "Is a directory"),
        (f"@{tmp_path}/nowhere", "No such file"),
        (f"@{tmp_path}/empty", "first line must be a URL"),
        (f"@{tmp_path}/binary", "not a text file"),
        ("@~nobody-of-this-name/url", "no such user"),
    ):
        with pytest.raises(InputError, match=told) as caught:
            storage_url(given)
        assert "\n" not in str(caught.value)


def _variable(url: URL, folder: Path) -> dict[str, str]:
    del folder
    return {**_place(url), "PGPASSWORD": str(url.password)}


def _password_file(url: URL, folder: Path) -> dict[str, str]:
    file = folder / "passwords"
    file.write_text(f"{url.host}:*:*:{url.username}:{url.password}\n", encoding="utf-8")
    file.chmod(0o600)
    return {**_place(url), "PGPASSFILE": str(file)}


def _service(url: URL, folder: Path) -> dict[str, str]:
    file = folder / "services"
    keys = f"host={url.host}\nport={url.port}\nuser={url.username}\ndbname={url.database}\npassword={url.password}\n"
    file.write_text(f"[studies]\n{keys}", encoding="utf-8")
    return {"PGSERVICEFILE": str(file), "PGSERVICE": "studies"}


def _place(url: URL) -> dict[str, str]:
    place = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGDATABASE": url.database}
    return {name: str(value) for name, value in place.items()}


@pytest.mark.postgresql
def test_what_a_url_leaves_out_is_taken_as_psql_takes_it(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_storage(postgresql_url)  # makes the tables
    ways: tuple[Callable[[URL, Path], dict[str, str]], ...] = (_variable, _password_file, _service)
    for way in ways:
        with monkeypatch.context() as patch:
            for name in LIBPQ:
                patch.delenv(name, raising=False)
            for name, value in way(make_url(postgresql_url), tmp_path).items():
                patch.setenv(name, value)
            assert study_names(open_storage("postgresql://", read_only=True)) == []
            patch.setenv("PGPASSFILE", str(tmp_path / "nowhere"))
            patch.delenv("PGPASSWORD", raising=False)
            if way is not _service:
                with pytest.raises(StorageError, match="password"):
                    open_storage("postgresql://", read_only=True)
