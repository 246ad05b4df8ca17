"""The metrics by which candidates are compared: name, label, unit and direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the tables. `label` and `unit` are for readers; `maximise` says that greater is better."""

    name: str
    label: str
    unit: str
    maximise: bool

    @property
    def on_test(self) -> str:
        """The label for values from the test split."""
        return self.label.replace("validation", "test")


METRICS: Mapping[str, Metric] = {
    "val_loss": Metric("val_loss", "validation loss", "nats", maximise=False),
    "val_accuracy": Metric("val_accuracy", "validation accuracy", "fraction right", maximise=True),
}


def metric_of(name: str) -> Metric:
    """The metric called `name`. Raises `ValueError` with the known names.

    >>> metric_of("val_loss").label
    'validation loss'
    """
    if name not in METRICS:
        raise ValueError(f"`metric` must be one of {', '.join(METRICS)}, but got {name!r}")
    return METRICS[name]


def chance_text(chance: float, tied: bool) -> str:
    """A candidate's chance of being the best: in brackets if its seeds rule it out, empty if unknown.

    >>> chance_text(0.42, tied=True), chance_text(0.02, tied=False), chance_text(math.nan, tied=True)
    ('42%', '(2%)', '')
    """
    if math.isnan(chance):
        return ""
    return f"{chance:.0%}" if tied else f"({chance:.0%})"
