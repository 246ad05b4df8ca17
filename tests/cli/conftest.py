"""The tiny study and a rule as files; the kernels are built before any command, which would announce it."""

import json
from pathlib import Path

import pytest

from scalesearch.models.ops.cpu.library import problem
from tests.cli.tiny import TINY
from tests.planted import planted_rule


@pytest.fixture(scope="session", autouse=True)
def _kernels(compilation_cache: None) -> None:
    del compilation_cache  # which names the folder
    assert problem() is None


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "coefficients.json"
    path.write_text(json.dumps(planted_rule().to_json()), encoding="utf-8")
    return path
