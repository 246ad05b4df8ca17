"""A PostgreSQL server of one's own in a temporary folder, which can be stopped and started again."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

PASSWORD = "s3cret"


def tools() -> Path | None:
    """The folder of the newest installed server's programs; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    return None if initdb is None else Path(initdb).resolve().parent


class Server:
    """A server with the user `scale` and a password, whose files are in `folder`. It is not started yet."""

    def __init__(self, folder: Path, *options: str) -> None:
        found = tools()
        assert found is not None
        self._tools, self._folder = found, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            users = {entry.pw_name for entry in pwd.getpwall()}
            user = next(name for name in ("postgres", "nobody") if name in users)
            self._as_user = ["runuser", "-u", user, "--"]
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        self._options = " ".join(
            ["-p", str(self._port), "-c listen_addresses=127.0.0.1", "-c fsync=off", "-k", str(folder)]
            + [f"-c {option}" for option in options]
        )
        login = ["-U", "scale", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
        self._call("initdb", *login, "-E", "UTF8", "--no-sync")

    @property
    def url(self) -> str:
        """Its SQLAlchemy URL without a database."""
        return f"postgresql+psycopg://scale:{PASSWORD}@127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self._call("pg_ctl", "-l", str(self._folder / "log"), "-w", "-o", self._options, "start")

    def stop(self) -> None:
        """Ends it as a power cut does."""
        self._call("pg_ctl", "-m", "immediate", "stop")

    def is_up(self) -> bool:
        """Whether its process runs."""
        return self._run("pg_ctl", "status").returncode == 0

    def create_database(self) -> str:
        """The SQLAlchemy URL of a new, empty database."""
        name = f"test_{secrets.token_hex(8)}"
        with self._connect() as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return f"{self.url}/{name}"

    def cut_connections(self) -> None:
        """Ends all connections but its own."""
        with self._connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url.replace("+psycopg", "") + "/postgres", autocommit=True)

    def _call(self, program: str, *arguments: str) -> None:
        self._run(program, *arguments).check_returncode()

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [*self._as_user, str(self._tools / program), "-D", str(self._folder / "data"), *arguments]
        nothing = subprocess.DEVNULL
        return subprocess.run(command, cwd="/", check=False, stdin=nothing, stdout=nothing)
