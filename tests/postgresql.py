"""A PostgreSQL server of its own in a temporary folder, which can be stopped and started, cut off and filled up."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psycopg
from psycopg.sql import SQL, Identifier

_MOUNT_BYTES = 2**26


def initdb() -> Path | None:
    """The newest `initdb` of this machine."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which("initdb")
    return None if found is None else Path(found).resolve()


class PostgresqlServer:
    """A server with a password; a context manager that ends and removes it.

    Args:
        small_disk: put the databases on a disk of 64 MiB of their own, which `fill` fills. Only root can mount it.
    """

    def __init__(self, *, small_disk: bool = False) -> None:
        program = initdb()
        if program is None:
            raise FileNotFoundError("PostgreSQL must be installed, but there is no initdb")
        self._tools, self._small_disk = program.parent, small_disk
        self._folder = Path(tempfile.mkdtemp(prefix="scalesearch-postgresql-"))
        self._disk: Path | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"postgresql+psycopg://scale:s3cret@127.0.0.1:{self._port}"
        """SQLAlchemy's URL, without a database."""

    def __enter__(self) -> Self:
        (self._folder / "password").write_text("s3cret", encoding="utf-8")
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            users = {entry.pw_name for entry in pwd.getpwall()}
            user = next(name for name in ("postgres", "nobody") if name in users)
            self._as_user = ["runuser", "-u", user, "--"]
            for path in (self._folder, self._folder / "password"):
                shutil.chown(path, user)
            if self._small_disk:
                self._mount(user)
        login = ["-U", "scale", "-A", "scram-sha-256", f"--pwfile={self._folder / 'password'}"]
        self._call("initdb", *login, "-E", "UTF8", "--no-sync")
        self.start()
        if self._disk is not None:
            with self.connect() as connection:
                connection.execute(SQL("CREATE TABLESPACE small LOCATION {}").format(str(self._disk)))
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):  # it may be stopped
            self.stop()
        if self._disk is not None:
            subprocess.run(["umount", self._disk], check=False)
        shutil.rmtree(self._folder)

    @property
    def has_small_disk(self) -> bool:
        """Whether the databases are on a disk of their own."""
        return self._disk is not None

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self._folder}"
        self._call("pg_ctl", "-l", str(self._folder / "log"), "-w", "-o", options, "start")

    def stop(self) -> None:
        """Ends it as a crash does: connections are cut, and it recovers at the next start."""
        self._call("pg_ctl", "-m", "immediate", "stop")

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the superuser."""
        return psycopg.connect(f"{self.url.replace('+psycopg', '')}/{database}", autocommit=True)

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{secrets.token_hex(8)}"
        place = SQL("TABLESPACE small") if self.has_small_disk else SQL("")
        with self.connect() as connection:
            connection.execute(SQL("CREATE DATABASE {} {}").format(Identifier(name), place))
        return f"{self.url}/{name}"

    def cut_connections(self) -> None:
        """Ends all connections but its own."""
        with self.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def fill(self) -> None:
        """Fills the disk of the databases to the last byte."""
        assert self._disk is not None
        with contextlib.suppress(OSError), (self._disk / "filling").open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def drain(self) -> None:
        """Frees what `fill` took."""
        assert self._disk is not None
        (self._disk / "filling").unlink(missing_ok=True)

    def _mount(self, user: str) -> None:
        disk = self._folder / "disk"
        disk.mkdir()
        options = f"size={_MOUNT_BYTES},mode=0700"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, check=False
        )
        if mounted.returncode == 0:
            shutil.chown(disk, user)
            self._disk = disk

    def _call(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._tools / program), "-D", str(self._folder / "data"), *arguments]
        nothing = subprocess.DEVNULL
        subprocess.run(command, cwd="/", check=True, stdin=nothing, stdout=nothing)
