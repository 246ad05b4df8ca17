"""A search in a notebook: one call, with progress in the output of the cell."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cli.tiny import ROOT, TINY

CELL = """
import scalesearch
run = scalesearch.search({study!r}, {out!r})
run
"""


@pytest.mark.notebook
@pytest.mark.slow
def test_a_search_draws_its_progress_and_shows_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    study = tmp_path / "tiny.toml"
    study.write_text(TINY, encoding="utf-8")
    code = CELL.format(study=str(study), out=str(tmp_path / "run"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=300).execute()
    *_, progress, result = (output for output in notebook.cells[0].outputs if "data" in output)  # messages come first
    assert "trial 4 of 4" in progress.data["text/html"]
    assert "val_loss" in progress.data["text/html"]
    assert "tiny: 3 complete" in result.data["text/html"]
