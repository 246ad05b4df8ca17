"""Compound scaling, searched: from a budget to the coefficients that scale a convolutional baseline.

search      the whole job: plan, train, choose, write a run folder; called again, it resumes
init        makes a study in a shared storage and queues its trials
join        trains trials of such a study, on any machine
validate    the rule against its rivals on the test split
export      a rule's network, or a trained model, in a format of another library
train       one network of the rule's family, from its data to a model's folder; called again, it resumes
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
    from scalesearch.export.write import export
    from scalesearch.results.load import Run, compare, load
    from scalesearch.search.engine import init, join, search
    from scalesearch.search.validate import validate
    from scalesearch.study.load import load_study
    from scalesearch.study.sections import Study
    from scalesearch.trained.engine import train
    from scalesearch.trained.model import Model
    from scalesearch.trained.opening import evaluate, load_model

# The packages `export` and `search` are loaded first: loaded later, they would take the place of the functions.
import scalesearch.export
import scalesearch.search

del export, search, scalesearch

_MODULES = {
    "Model": "trained.model",
    "Run": "results.load",
    "Study": "study.sections",
    "compare": "results.load",
    "export": "export.write",
    "evaluate": "trained.opening",
    "init": "search.engine",
    "join": "search.engine",
    "load": "results.load",
    "load_model": "trained.opening",
    "load_study": "study.load",
    "search": "search.engine",
    "train": "trained.engine",
    "validate": "search.validate",
}

__all__ = [
    "Model",
    "Run",
    "Study",
    "__version__",
    "compare",
    "evaluate",
    "export",
    "init",
    "join",
    "load",
    "load_model",
    "load_study",
    "search",
    "train",
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
