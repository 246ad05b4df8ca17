"""Fixtures that `conftest.py` shares: a PostgreSQL server, storages, a cache of compiled programs, `datasets`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from tests.postgresql import Server, tools


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever a developer's own cache holds must not change a test; child processes inherit the setting.

    Processes that test side by side share it: the kernels are built once.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALESEARCH_CACHE_DIR", str(shared / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def hasty_sqlite() -> Iterator[None]:
    """Databases that end with the tests need not survive a power cut: without the waits for the disk they are fast."""

    def hurry(connection: Any, record: Any) -> None:
        del record
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", hurry)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", hurry)


@pytest.fixture(scope="session")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The library `datasets`, offline and with a cache of its own: it reads these settings when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hugging_face")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        import datasets

        yield datasets


def without_the_dashboard(patch: pytest.MonkeyPatch) -> None:
    """As where the extra `dashboard` is not installed."""
    find = importlib.util.find_spec
    patch.setattr("importlib.util.find_spec", lambda name: None if name == "optuna_dashboard" else find(name))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A server of its own in a temporary folder, with a password."""
    if tools() is None:
        told = "PostgreSQL must be installed (Debian: apt-get install postgresql), but there is no initdb"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    folder = Path(tempfile.mkdtemp(prefix="scalesearch-postgresql-"))
    try:
        server = Server(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgresql_server(postgresql: Server) -> str:
    """Its SQLAlchemy URL without a database."""
    return postgresql.url


@pytest.fixture
def postgresql_url(postgresql: Server) -> str:
    """The URL of an empty database of the test's own."""
    return postgresql.create_database()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty storage of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{(tmp_path / 'study.db').as_posix()}"
    return str(request.getfixturevalue("postgresql_url"))
