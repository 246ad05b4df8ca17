"""The tiny study as a file; the kernels are built before any command, which would tell of it."""

from pathlib import Path

import pytest

from scalesearch.models.ops.cpu.library import problem
from tests.cli.tiny import TINY


@pytest.fixture(scope="session", autouse=True)
def _kernels(compilation_cache: None) -> None:
    del compilation_cache  # whose folder they are kept in
    assert problem() is None


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path
