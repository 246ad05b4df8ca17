"""Where compiled programs are kept: the rules for the folder, and who may use it."""

from __future__ import annotations

import os
import stat
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from scalesearch.runtime.cache import cache_folder, folder_in_use


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SCALESEARCH_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_which_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"xla-jaxlib-{version('jaxlib')}"
    assert cache_folder() == tmp_path / ".cache" / "scalesearch" / name
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/to/be/ignored")
    assert cache_folder() == tmp_path / ".cache" / "scalesearch" / name
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "scalesearch" / name
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine" / name


def test_the_folder_becomes_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir(mode=0o755)
    folder = cache_folder()
    folder.mkdir(mode=0o755)
    assert folder_in_use() == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_used_warns_and_nothing_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="must be yours and writable, but Not a directory.*SCALESEARCH_CACHE_DIR"):
        assert folder_in_use() is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no user ids here")
def test_a_folder_of_another_user_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path))
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.warns(UserWarning, match="it belongs to user"):
        assert folder_in_use() is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no user ids here")
def test_a_folder_that_others_may_write_to_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path))
    folder = cache_folder()
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.warns(UserWarning, match="others may write to it"):
        assert folder_in_use() is None


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files")
def test_a_disk_without_room_warns_and_nothing_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: empty files can be created, but nothing written."""
    import resource

    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "mine"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.warns(UserWarning, match="are not kept.*File too large.*SCALESEARCH_CACHE_DIR"):
            assert folder_in_use() is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = folder_in_use()
    assert folder is not None
    assert list(folder.iterdir()) == []
