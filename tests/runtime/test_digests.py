"""A change of any bit of a kept file is noticed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from scalesearch.runtime.digests import DigestList, seal, unseal


def test_any_changed_byte_breaks_the_seal() -> None:
    sealed = seal(b"content")
    assert unseal(sealed) == b"content"
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        assert unseal(bytes(changed)) is None
        assert unseal(sealed[:place]) is None


def read(folder: Path) -> DigestList:
    digests = DigestList(folder)
    digests.read()
    return digests


@pytest.mark.parametrize("change", [b"Content", b"conten", b""])
def test_a_file_that_has_changed_matches_no_more(tmp_path: Path, change: bytes) -> None:
    (tmp_path / "a b").write_bytes(b"content")
    (tmp_path / "new").touch()
    read(tmp_path).add(["a b", "gone"])
    digests = read(tmp_path)
    assert [name in digests for name in ("a b", "new", "gone")] == [True, False, False]
    assert digests.matches("a b")
    os.utime(tmp_path / "a b", (1, 1))
    assert read(tmp_path).matches("a b")  # its content is the same
    (tmp_path / "a b").write_bytes(change)
    assert not read(tmp_path).matches("a b")
    assert not digests.is_current("a b")


@pytest.mark.skipif(sys.platform != "linux", reason="no number of the start of the machine")
def test_after_the_machine_was_started_again_each_file_is_read_once(tmp_path: Path) -> None:
    """A power cut can change a file and leave its size and times as they were."""
    path = tmp_path / "a"
    path.write_bytes(b"content")
    read(tmp_path).add(["a"])
    path.write_bytes(b"Content")
    name, digest, status = json.loads((tmp_path / "digests").read_text())
    found = path.stat()
    times = [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    for start, expected in ((status[3], True), ("another", False)):
        (tmp_path / "digests").write_text(json.dumps([name, digest, [*times, start]]))
        assert read(tmp_path).matches("a") == expected


def test_lines_that_are_not_whole_count_for_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        read(tmp_path).add([name])
    path = tmp_path / "digests"
    whole = path.read_bytes()
    for end in range(0, len(whole), 9):
        path.write_bytes(whole[:end])
        read(tmp_path).add(["b"])
        digests = read(tmp_path)
        assert digests.matches("b")
        assert "a" not in digests or digests.matches("a")
    path.write_bytes(b"\xff[1]\n[1, 2, 3]\n{}\n" + whole)
    assert read(tmp_path).matches("a")


def test_the_list_forgets_what_is_gone(tmp_path: Path) -> None:
    digests = read(tmp_path)
    for _ in range(60):
        (tmp_path / "a").write_text("a")
        digests.add(["a"])
    (tmp_path / "b").touch()
    digests.add(["b"])
    (tmp_path / "a").unlink()
    assert "b" in read(tmp_path)
    assert [line[:5] for line in (tmp_path / "digests").read_text().splitlines()] == ['["b",']
