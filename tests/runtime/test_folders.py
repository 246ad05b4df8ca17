"""A run folder is one process's at a time, and is not left behind empty."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scalesearch.errors import InputError
from scalesearch.runtime.folders import locked_folder


def test_a_folder_to_which_nothing_was_written_is_removed(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run").is_dir()
    assert not (tmp_path / "new" / "run").exists()


def test_a_folder_that_existed_or_was_written_to_stays(tmp_path: Path) -> None:
    with locked_folder(tmp_path):
        pass
    assert tmp_path.exists()
    other = tmp_path / "other"
    with locked_folder(other):
        (other / "study.toml").touch()
    assert (other / "study.toml").exists()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked_folder(folder):
        (folder / "study.toml").touch()
        with (
            pytest.raises(InputError, match="another scalesearch command is already using this folder"),
            locked_folder(folder),
        ):
            raise AssertionError
    with locked_folder(folder):
        pass  # it is free again


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"nnn: cannot be written \("), locked_folder(tmp_path / (300 * "n")):
        raise AssertionError
    with pytest.raises(InputError, match=r"file/run: cannot be written \("), locked_folder(tmp_path / "file" / "run"):
        raise AssertionError


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of this kind")
def test_what_a_killed_process_left_unfinished_is_removed(tmp_path: Path) -> None:
    for name in (".study.toml.3k_a9x0b.unfinished", ".hidden", "study.toml"):
        (tmp_path / name).touch()
    with locked_folder(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".lock", "study.toml"]
