"""Every notebook runs from top to bottom on a run folder."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from scalesearch.results import finish
from tests.planted import planted_run

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_the_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planted_run(tmp_path)
    finish(run)
    monkeypatch.setenv("SCALESEARCH_RUN", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    figures = [output for output in outputs if "application/vnd.plotly.v1+json" in output.get("data", {})]
    assert len(figures) == 3
    assert run.choice.signal.verdict in "".join(output.get("text", "") for output in outputs)


def test_there_are_notebooks_without_stored_outputs() -> None:
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        assert not any(cell.get("outputs") for cell in cells), f"{path.name} holds outputs: clear them"
