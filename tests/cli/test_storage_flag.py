"""--storage: a URL, a file or an environment variable; a password on the command line is noted."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalesearch.cli.main import main
from scalesearch.search.queue.storage import open_storage, sqlite_url
from tests.cli.tiny import TINY, complaint

UNREACHABLE = "postgresql://me:s3cret@127.0.0.1:1/db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder whose storage has no study yet: each command says where it looked."""
    open_storage(sqlite_url(tmp_path))
    (tmp_path / "study.toml").write_text(TINY, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("command", ["status", "report", "dashboard", "validate"])
def test_the_variable_stands_for_the_flag_and_the_flag_wins(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SCALESEARCH_STORAGE", UNREACHABLE)
    told = complaint(capsys, command, folder, code=4)
    assert "the storage postgresql+psycopg://me@127.0.0.1:1/db cannot be opened" in told
    told = complaint(capsys, command, folder, "--storage", sqlite_url(folder), code=4)
    assert "no study called 'tiny' in sqlite:///" in told
    monkeypatch.setenv("SCALESEARCH_STORAGE", "")
    assert "no study called 'tiny'" in complaint(capsys, command, folder, code=4)


def test_a_worker_and_init_need_a_storage(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCALESEARCH_STORAGE", raising=False)
    for command in (["worker", "--study-name", "x"], ["init"]):
        assert "Give --storage, or set SCALESEARCH_STORAGE" in complaint(capsys, *command)
    assert "got nothing" in complaint(capsys, "status", folder, "--storage", "")
    assert "@nowhere: cannot be read" in complaint(capsys, "worker", "--study-name", "x", "--storage", "@nowhere")


def test_a_password_on_the_command_line_is_noted(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["status", str(folder), "--storage", UNREACHABLE]) == 4
    note, error = capsys.readouterr().err.splitlines()
    assert note.startswith("scalesearch: note: the password in --storage is visible to every user of this machine")
    assert "s3cret" not in note + error
    monkeypatch.setenv("SCALESEARCH_STORAGE", UNREACHABLE)
    complaint(capsys, "status", folder, code=4)  # one line
