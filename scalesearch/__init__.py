"""Compound scaling, searched: from a budget to the coefficients that scale a convolutional baseline.

`load("runs/NAME")` reads a run folder; see `scalesearch.results.load.Run`. `compare` lays two runs side by side.
"""

from __future__ import annotations

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
