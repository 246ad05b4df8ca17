"""The command doctor: its findings, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scalesearch.search.queue.storage import sqlite_url
from tests.cli.tiny import ROOT, environment, scalesearch

TOPICS = ["device", "cores", "python", "versions", "compilation cache", "image cache", "kernels", "numerics", "storage"]


@pytest.mark.slow
def test_it_looks_at_everything(tmp_path: Path) -> None:
    done = scalesearch("doctor", "--json", "--storage", sqlite_url(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert [list(finding) for finding in findings] == [["topic", "found", "good"]] * len(findings)
    assert [finding["topic"] for finding in findings] == TOPICS


@pytest.mark.parametrize(("flags", "code"), [([], 1), (["--storage", "sqlite:////no/such/study.db"], 4)])
def test_what_is_wrong_gives_an_exit_code_and_the_rest_is_still_looked_at(flags: list[str], code: int) -> None:
    """A jax that cannot train spares the slow checks."""
    command = [sys.executable, "-m", "scalesearch", "doctor", "--json", *flags]
    settings = {**environment(), "JAX_DISABLE_JIT": "1"}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    findings = json.loads(done.stdout)["findings"]
    wrong = [finding["topic"] for finding in findings if not finding["good"]]
    assert wrong == ["device", *(["storage"] if flags else [])]
    assert [finding["topic"] for finding in findings][:5] == TOPICS[:5]
    assert findings[0]["found"].startswith("JAX_DISABLE_JIT must be false or unset")
