"""Compound scaling, searched: from a budget to the coefficients that scale a convolutional baseline.

`load("runs/NAME")` reads a run folder; see `scalesearch.results.load.Run`. `compare` lays two runs side by side.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scalesearch.results.load import Run, compare, load

__all__ = ["Run", "__version__", "compare", "load"]


def __getattr__(name: str) -> Any:
    """`load`, `compare` and `Run` on first use: the commands that answer at once must not import pandas."""
    if name in ("Run", "compare", "load"):
        from scalesearch.results import load as results

        return getattr(results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# What shows itself as a table in a notebook: module and class. Subclasses do as well.
_SHOWN_IN_NOTEBOOKS = (
    ("scaling.rule", "ScalingRule"),
    ("scaling.family", "Family"),
    ("scaling.feasible", "Candidate"),
    ("scaling.explain", "Explanation"),
    ("analysis.choice", "Choice"),
    ("analysis.signal", "Signal"),
    ("analysis.surfaces.base", "Surface"),
    ("analysis.validation", "Validation"),
    ("analysis.outcome", "Outcome"),
)


def _html_of(value: Any) -> str:
    from scalesearch.report.notebook import html_of

    return html_of(value)


def _register_in_notebook() -> None:
    """Tells IPython, if it runs, how the classes show themselves; by name, so that none is imported for it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        formatter = shell.display_formatter.formatters["text/html"]
        for module, name in _SHOWN_IN_NOTEBOOKS:
            formatter.for_type_by_name(f"{__name__}.{module}", name, _html_of)


_register_in_notebook()
