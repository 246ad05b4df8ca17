"""The tiny study as a file."""

from pathlib import Path

import pytest

from tests.cli.tiny import TINY


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path
