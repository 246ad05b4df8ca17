"""The command export: the rule on stdout or in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scalesearch.cli.main import main
from tests.cli.tiny import complaint


def test_to_stdout_and_to_a_file(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    document = json.loads(rule_file.read_text(encoding="utf-8"))
    assert main(["export", str(rule_file.parent)]) == 0
    assert json.loads(capsys.readouterr().out) == document
    target = rule_file.parent / "out.json"
    assert main(["export", str(rule_file.parent), "--to", "json", "--output", str(target)]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"wrote {target}\n")
    assert json.loads(target.read_text(encoding="utf-8")) == document


def test_bad_input(capsys: pytest.CaptureFixture[str], rule_file: Path, tmp_path: Path) -> None:
    folder = str(rule_file.parent)
    assert "no such file or folder" in complaint(capsys, "export", str(tmp_path / "nowhere"))
    assert "invalid choice: 'caffe'" in complaint(capsys, "export", folder, "--to", "caffe")
    for target in (tmp_path / "no" / "such.json", Path("/proc/self/out.json"), tmp_path):
        assert f"{target}: cannot be written" in complaint(capsys, "export", folder, "--output", str(target))
    rule_file.unlink()
    assert "no coefficients.json there yet" in complaint(capsys, "export", folder)
