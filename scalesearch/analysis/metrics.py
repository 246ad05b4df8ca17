"""The metrics that candidates are compared by: name, label, unit, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the tables; `label` and `unit` are for readers."""

    name: str
    label: str
    unit: str
    maximise: bool

    @property
    def on_test(self) -> str:
        """The label where the metric is taken on the test split."""
        return self.label.replace("validation", "test")


METRICS: Mapping[str, Metric] = {
    "val_loss": Metric("val_loss", "validation loss", "nats", maximise=False),
    "val_accuracy": Metric("val_accuracy", "validation accuracy", "fraction right", maximise=True),
}


def metric_of(name: str) -> Metric:
    """The metric called `name`. Raises `ValueError` naming those there are."""
    if name not in METRICS:
        raise ValueError(f"`metric` must be one of {', '.join(METRICS)}, but got {name!r}")
    return METRICS[name]


def chance_text(chance: float, tied: bool) -> str:
    """A candidate's chance of being the best; in brackets where its seeds rule it out, empty where not known."""
    if math.isnan(chance):
        return ""
    return f"{chance:.0%}" if tied else f"({chance:.0%})"
