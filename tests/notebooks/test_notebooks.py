"""Every notebook runs from top to bottom on run folders, defines nothing, and shows what it asks about."""

from __future__ import annotations

import ast
import base64
import html
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from scalesearch.results.load import Run
from scalesearch.results.save import finish
from tests.planted import PlantedSurface, planted_run

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
FIGURES = {"trials": 3, "certainty": 1, "family": 0, "comparison": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    first = planted_run(tmp_path_factory.mktemp("first"))
    second = planted_run(tmp_path_factory.mktemp("second"), PlantedSurface(linear=(0.56, 0.56, 0.50)))
    for run in (first, second):
        finish(run)
    return first, second


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_the_run(path: Path, runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = runs
    monkeypatch.setenv("SCALESEARCH_RUN", str(first.folder))
    monkeypatch.setenv("SCALESEARCH_OTHER", str(second.folder))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    outputs = [output.get("data", {}) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    figures = [data for data in outputs if "application/vnd.plotly.v1+json" in data]
    assert len(figures) == FIGURES[path.stem]
    shown = html.unescape("".join(data.get("text/html", "") for data in outputs))
    wanted = {
        "trials": [first.choice.signal.verdict, "val_loss_sd"],
        "certainty": [first.choice.certainty, "part of the triangle", "depth·width"],
        "family": [f"{first.rule.alpha:.4f}", "real ÷ nominal", f"{first.nearest.complexity.macs:,}"],
        "comparison": [first.choice.certainty, second.choice.certainty, "overlap"],
    }
    assert [text for text in wanted[path.stem] if text not in shown] == []


def test_a_notebook_asks_one_question_and_defines_nothing() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(FIGURES)
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        assert cells[0].source.splitlines()[0].endswith("?")
        tree = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) for node in ast.walk(tree))


def test_a_notebook_keeps_what_it_showed_with_a_picture_of_each_figure() -> None:
    """`make notebooks` writes it: where no JavaScript runs, as on GitHub, a reader sees the picture."""
    for path in NOTEBOOKS:
        code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        outputs = [output for cell in code for output in cell.outputs]
        assert all(output.output_type in ("display_data", "execute_result") for output in outputs), path.stem
        assert all(cell.execution_count for cell in code), path.stem
        figures = [output.data for output in outputs if "application/vnd.plotly.v1+json" in output.data]
        assert len(figures) == FIGURES[path.stem]
        for data in figures:
            assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        tables = [output.data for output in outputs if "text/html" in output.data]
        assert len(tables) + len(figures) == len(outputs) > 0
        assert path.stat().st_size < 1_000_000
