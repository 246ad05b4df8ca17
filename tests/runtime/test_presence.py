"""Presence: a process holds a lock as long as it lives, and what dead ones left is removed some day."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from scalesearch.runtime.presence import has_ended, present

_HOLDER = """
import json, sys
from scalesearch.runtime.presence import present
with present() as presence:
    print(json.dumps(presence), flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_has_ended_and_a_living_one_has_not() -> None:
    command = [sys.executable, "-c", _HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        presence = json.loads(process.stdout.readline())
        assert presence["process"] == process.pid
        assert not has_ended(presence)
        process.kill()
        process.wait()
        assert has_ended(presence)
        assert has_ended(presence)  # for everybody who asks
        assert not has_ended({**presence, "host": "elsewhere"})
    Path(presence["lock"]).unlink()
    assert not has_ended(presence)  # nothing is known of it any more


def test_what_was_left_long_ago_is_removed_and_what_is_held_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with present() as first:
        folder = Path(first["lock"]).parent
        old, recent = folder / "old.lock", folder / "recent.lock"
        for path in (old, recent):
            path.touch()
        for path in (old, Path(first["lock"])):
            os.utime(path, (0, 0))
        with present():
            assert not old.exists()
            assert recent.exists()
            assert Path(first["lock"]).exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no user ids here")
def test_locks_lie_in_a_private_folder_and_one_that_others_may_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with present() as presence:
        folder = Path(presence["lock"]).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    with present() as presence:
        assert presence["lock"] is None
        assert not has_ended(presence)  # others judge by signs of life
