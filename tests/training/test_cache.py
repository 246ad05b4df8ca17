from __future__ import annotations

import os
import stat
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from scalesearch.training.cache import cache_folder, enable_compilation_cache


@pytest.fixture(autouse=True)
def _keep_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("SCALESEARCH_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    monkeypatch.undo()
    jax.config.update("jax_compilation_cache_dir", before)
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()


def test_which_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"xla-jaxlib-{version('jaxlib')}"
    assert cache_folder() == tmp_path / ".cache" / "scalesearch" / name
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/to/be/ignored")
    assert cache_folder() == tmp_path / ".cache" / "scalesearch" / name
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "scalesearch" / name
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine" / name


def test_programs_are_kept_in_a_private_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir(mode=0o755)
    folder = cache_folder()
    folder.mkdir(mode=0o755)
    assert enable_compilation_cache() == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setattr("scalesearch.training.cache._MIN_COMPILE_SECONDS", 0.0)
    enable_compilation_cache()
    jax.jit(lambda x: jnp.sin(x) * 3 + 1)(jnp.arange(7.0)).block_until_ready()
    assert list(folder.iterdir())


def test_a_folder_that_cannot_be_used_warns_and_nothing_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="must be yours and writable, but Not a directory.*SCALESEARCH_CACHE_DIR"):
        enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir != str(cache_folder())


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no user ids here")
def test_a_folder_of_another_user_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path))
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.warns(UserWarning, match="it belongs to user"):
        enable_compilation_cache()
