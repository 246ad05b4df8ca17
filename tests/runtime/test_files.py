"""Files that are whole or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from scalesearch.runtime.files import write_text, write_whole


def test_text_is_written_as_utf_8_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "rule.json"
    write_text(path, "α·β²·γ²\n")
    assert path.read_bytes() == "α·β²·γ²\n".encode()
    write_text(path, "short")
    assert path.read_text(encoding="utf-8") == "short"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError("wrong")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "rule.json"
    write_text(path, "old")

    def write(temporary: Path) -> None:
        temporary.write_text("half", encoding="utf-8")
        raise error

    with pytest.raises(type(error)):
        write_whole(path, write)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rule.json"

    def write(temporary: Path) -> None:
        assert temporary.parent == path.parent  # a rename between file systems is no rename
        assert temporary.name.startswith(".")
        temporary.write_text("whole", encoding="utf-8")
        assert not path.exists()

    write_whole(path, write)
    assert path.read_text(encoding="utf-8") == "whole"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_result_is_as_readable_as_any_other_file(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "rule.json", "text")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "rule.json").stat().st_mode) == mode


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "no" / "such.json", "text")
