"""Compound scaling, searched: from a budget to the coefficients that scale a convolutional baseline.

search      the whole job: plan, train, choose, write a run folder; called again, it resumes
validate    the rule against its rivals on the test split
load        a run folder as a `Run`: tables, choice, rule, family, figures
compare     two runs side by side
load_study  a study file as a `Study`
load_model  a trained model, which classifies images
evaluate    a trained model on labelled images
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scalesearch.results.load import Run, compare, load
    from scalesearch.search.engine import search
    from scalesearch.search.validate import validate
    from scalesearch.study.load import load_study
    from scalesearch.study.sections import Study
    from scalesearch.trained.evaluation import evaluate
    from scalesearch.trained.model import Model, load_model

# The package `search` is loaded first: loaded later, it would take the place of the function `search`.
import scalesearch.search

del search, scalesearch

_MODULES = {
    "Model": "trained.model",
    "Run": "results.load",
    "Study": "study.sections",
    "compare": "results.load",
    "evaluate": "trained.evaluation",
    "load": "results.load",
    "load_model": "trained.model",
    "load_study": "study.load",
    "search": "search.engine",
    "validate": "search.validate",
}

__all__ = [
    "Model",
    "Run",
    "Study",
    "__version__",
    "compare",
    "evaluate",
    "load",
    "load_model",
    "load_study",
    "search",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Public names on first use: the commands that answer at once must not import pandas."""
    if name in _MODULES:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value  # also where a subpackage has the same name
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
