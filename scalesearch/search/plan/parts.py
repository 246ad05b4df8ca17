"""The searches that a study consists of: its levels φ, and the rungs of its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scalesearch.study.load import parse_study
from scalesearch.study.sections import Study


@dataclass(frozen=True, slots=True)
class Part:
    """One search: that of level `phi`, or at φ = 1 that of a shorter schedule of `rung` epochs (0: the whole one)."""

    phi: float
    rung: int
    study: Study

    @property
    def label(self) -> str:
        """What tells it from the others; empty for the whole schedule at φ = 1."""
        if self.rung:
            return f"{self.rung}-epoch schedule"
        return "" if self.phi == 1 else f"φ = {self.phi:g}"


def parts_of(study: Study) -> tuple[Part, ...]:
    """The searches of `study`, each stored under a name of its own: φ = 1 first, then other levels, then rungs."""
    levels = [Part(phi, 0, _level(study, phi)) for phi in sorted(study.phi, key=lambda phi: (phi != 1, phi))]
    return (*levels, *(Part(1.0, rung, _rung(study, rung)) for rung in sorted(study.rungs)))


def derived(study: Study, **changes: Any) -> Study:
    """A single search that differs from `study` by `changes`."""
    document: Mapping[str, Any] = {**study.model_dump(mode="json"), "phi": [1.0], "rungs": [], **changes}
    return parse_study(document, f"study {document['name']}")


def _level(study: Study, phi: float) -> Study:
    if phi == 1:
        return derived(study)
    return derived(study, name=f"{study.name}-phi-{phi:g}", budget=study.budget**phi)


def _rung(study: Study, epochs: int) -> Study:
    """The whole schedule in fewer epochs: its warm-up shrinks with it. Nothing is pruned: all are to be compared."""
    warm_up = study.training.warmup_epochs * epochs / study.training.epochs
    training = {**study.training.model_dump(mode="json"), "epochs": epochs, "warmup_epochs": warm_up}
    return derived(study, name=f"{study.name}-epochs-{epochs}", prune=False, training=training)
