"""The notebooks of the repository as pages: executed on the stored results, figures drawn by plotly in the page."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import plotly
import plotly.io
from nbclient import NotebookClient
from nbformat import NotebookNode
from sphinx.application import Sphinx

REPOSITORY = Path(__file__).parents[2]
RUNS = {
    "SCALESEARCH_RUN": REPOSITORY / "studies/results/mnist_sample",
    "SCALESEARCH_OTHER": REPOSITORY / "studies/results/fashion_mnist",
}
PLOTLY = "application/vnd.plotly.v1+json"
FOLDER = "notebooks"


def execute(app: Sphinx) -> None:
    """Write an executed copy of each notebook into the folder `notebooks` of the documentation."""
    os.environ.update({name: str(folder) for name, folder in RUNS.items()})
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    sources = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
    with ThreadPoolExecutor(2) as threads:  # each notebook has a process of its own
        for source, notebook in zip(sources, threads.map(executed, sources), strict=True):
            nbformat.write(notebook, folder / source.name)


def executed(source: Path) -> NotebookNode:
    """The notebook with fresh outputs."""
    notebook = nbformat.read(source, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(source.parent)}}).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            draw(output.get("data", {}))
    # MyST's own way to leave a notebook as it is
    notebook.metadata["mystnb"] = {"execution_mode": "off"}
    return notebook


def draw(data: dict[str, Any]) -> None:
    """Turn a plotly figure into HTML that uses the script of the page."""
    if PLOTLY in data:
        figure = plotly.io.from_json(plotly.io.json.to_json_plotly(data[PLOTLY]), skip_invalid=True)
        html = plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, default_height="480px")
        data.clear()
        data["text/html"] = html


def load_plotly(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Load plotly's script on the pages of notebooks only: it has four megabytes."""
    del template, context, doctree
    if page.startswith(f"{FOLDER}/"):
        app.add_js_file("plotly.min.js", priority=100)


def copy_plotly(app: Sphinx, error: Exception | None) -> None:
    """Copy the script that plotly ships."""
    if error is None:
        shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", Path(app.outdir) / "_static")


def setup(app: Sphinx) -> dict[str, bool]:
    """Execute before the pages are read."""
    app.connect("builder-inited", execute)
    app.connect("html-page-context", load_plotly)
    app.connect("build-finished", copy_plotly)
    return {"parallel_read_safe": True}
