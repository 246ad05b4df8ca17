"""Files that are whole or not there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scalesearch.errors import InputError
from scalesearch.runtime.files import check_file, remove_unfinished, write_folder, write_text, write_whole


def test_text_is_written_as_utf_8_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "rule.json"
    write_text(path, "α·β²·γ²\n")
    assert path.read_bytes() == "α·β²·γ²\n".encode()
    write_text(path, "short")
    assert path.read_text(encoding="utf-8") == "short"
    assert list(tmp_path.iterdir()) == [path]


def test_only_a_plain_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "nothing", "no such file"),
        (tmp_path / ("x" * 300), "cannot be read .File name too long"),
        (tmp_path / "a\0b", "cannot be read .embedded null byte"),
        (tmp_path, "must be a file, but is a folder"),
        (tmp_path / "pipe", "must be a file, but is no plain one"),
        (Path(os.devnull), "must be a file, but is no plain one"),
    ):
        with pytest.raises(InputError, match=reason):
            check_file(path)
    write_text(tmp_path / "file", "")
    check_file(tmp_path / "file")


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


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "rule.json", tmp_path / "link.json"
    target.parent.mkdir()
    target.write_text("old", encoding="utf-8")
    link.symlink_to(Path("there") / "rule.json")
    write_text(link, "new")
    assert (link.is_symlink(), target.read_text(encoding="utf-8")) == (True, "new")
    assert [each.name for each in target.parent.iterdir()] == ["rule.json"]


def test_a_link_that_leads_nowhere_and_a_folder_are_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="a link that leads nowhere"):
        write_text(link, "text")
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path, "text")
    assert [each.name for each in tmp_path.iterdir()] == ["link.json"]


def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_text(pipe, "text")
    reader.join(timeout=60)
    assert (got, stat.S_ISFIFO(pipe.stat().st_mode)) == ([b"text"], True)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_device_is_written_through() -> None:
    # A terminal: where the code is wrong, root would replace /dev/null, but nobody creates files in /dev/pts.
    master, slave = os.openpty()
    try:
        write_text(Path(os.ttyname(slave)), "text")
        assert os.read(master, 100) == b"text"
    finally:
        os.close(master)
        os.close(slave)


def test_an_open_file_is_written_on_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as log:
        log.write(b"before\n")
        log.flush()
        write_text(Path(f"/dev/fd/{log.fileno()}"), "text\n")
        write_text(Path(f"/proc/self/fd/{log.fileno()}"), "more\n")
        log.write(b"after\n")
    assert path.read_text(encoding="utf-8") == "before\ntext\nmore\nafter\n"


def test_stdout_by_its_path(tmp_path: Path) -> None:
    code = "from pathlib import Path; from scalesearch.runtime.files import write_text; "
    code += "print('a', flush=True); write_text(Path('/dev/stdout'), 'b\\n'); print('c')"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=out)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "a\nb\nc\n"


def _fill(*names: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name in names:
            (folder / name).write_text(f"new {name}", encoding="utf-8")

    return write


def test_a_folder_is_new_empty_or_of_the_same_files(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    write_folder(folder, _fill("a", "b"))
    (folder / "a").write_text("old", encoding="utf-8")
    write_folder(folder, _fill("a", "b", "c"))
    assert {each.name: each.read_text(encoding="utf-8") for each in folder.iterdir()} == {
        "a": "new a",
        "b": "new b",
        "c": "new c",
    }
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", _fill("a"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty", "export"]


def test_a_folder_with_anything_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    write_folder(folder, _fill("a", "b"))
    before = {each.name: each.stat().st_mtime_ns for each in folder.iterdir()}
    with pytest.raises(FileExistsError, match="it holds b, which this export does not write"):
        write_folder(folder, _fill("a"))
    assert {each.name: each.stat().st_mtime_ns for each in folder.iterdir()} == before
    with pytest.raises(NotADirectoryError, match="it exists and is no folder"):
        write_folder(folder / "a", _fill("a"))
    (folder / "b").unlink()
    (folder / "b").symlink_to("a")
    with pytest.raises(FileExistsError, match="it holds b"):
        write_folder(folder, _fill("a", "b"))
    assert [each.name for each in tmp_path.iterdir()] == ["export"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could leave an empty file in the place of the old one."""
    path, synced = tmp_path / "rule.json", []

    def fsync(handle: int) -> None:
        status = os.fstat(handle)
        synced.append((stat.S_ISDIR(status.st_mode) or status.st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "four")
    folders = [(True, True)] * (sys.platform != "win32")
    assert synced == [(4, False), *folders]
    path.unlink()
    for is_there in (False, True):  # files, the new folder, and where these are then
        synced.clear()
        write_folder(path, _fill("a"))
        assert synced == [(5, is_there), *[(True, is_there) for _ in folders], *folders]


KILLED = """
import os, signal, sys
from pathlib import Path
from scalesearch.runtime import files
def write(path):
    (path / "a" if path.is_dir() else path).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
getattr(files, sys.argv[1])(Path(sys.argv[2]), write)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of this kind")
@pytest.mark.parametrize("name", ["write_whole", "write_folder"])
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rule[1].json"  # also a name that is a pattern
    subprocess.run([sys.executable, "-c", KILLED, name, path], check=False)
    (left,) = tmp_path.iterdir()
    foreign = tmp_path / ".rule[1].json.abcdefgh"
    foreign.touch()
    remove_unfinished(tmp_path, "other")
    assert left.exists()
    getattr(sys.modules["scalesearch.runtime.files"], name)(path, _fill("a") if name == "write_folder" else Path.touch)
    assert sorted(tmp_path.iterdir()) == sorted([foreign, path])


def test_what_another_process_removes_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when two workers keep the same file at once."""
    made: list[str] = []

    def make(*arguments: Any, **options: Any) -> tuple[int, str]:
        made.append("")
        handle, name = mkstemp(*arguments, **options)
        if len(made) == 1:
            remove_unfinished(tmp_path)
        return handle, name

    mkstemp = tempfile.mkstemp
    monkeypatch.setattr(tempfile, "mkstemp", make)
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "text"
    assert (len(made), [each.name for each in tmp_path.iterdir()]) == (2, ["file"])


def test_what_another_process_writes_at_this_moment_stays(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("text", encoding="utf-8")
        remove_unfinished(tmp_path)
        write_text(tmp_path / "file", "other")
        assert temporary.exists()

    write_whole(tmp_path / "file", write)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
