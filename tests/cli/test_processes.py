"""The processes that train beside a run share its cores."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from scalesearch.cli.main import main
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.workers import helpers, owned
from scalesearch.search.queue.storage import sqlite_url


def test_each_search_of_a_run_shares_out_all_cores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, own = usable_cores(), []
    for _ in range(2):
        with helpers(sqlite_url(tmp_path), "nothing", 2, math.inf):  # whose other worker finds no study
            own.append(usable_cores())
    assert own == [before[::2]] * 2
    assert usable_cores() == before
    assert capsys.readouterr().err.count("a worker ended early with exit code 4") == 2


def test_a_folder_of_which_nothing_came_is_not_left_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert main(["run", "--out", str(folder), "--storage", "no://such"]) == 4
    assert "the storage URL no://such cannot be used" in capsys.readouterr().err
    assert not folder.exists()
    folder.mkdir()  # the user's own stays
    with owned(folder):
        pass
    assert folder.exists()
    other = tmp_path / "other"
    with owned(other):
        (other / "study.toml").touch()
    assert (other / "study.toml").exists()
