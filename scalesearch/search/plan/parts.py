"""The parts of a study, each a search: its levels φ, and the rungs (shorter schedules)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scalesearch.errors import InputError
from scalesearch.search.plan.design import Plan, make_plan
from scalesearch.study.load import parse_study
from scalesearch.study.sections import Study

# Networks that cost the budgets of all levels together, at most: planning among more would take long.
_MOST_FEASIBLE = 2_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """A search at level `phi`, on a schedule of `rung` epochs (0: the full schedule; rungs have φ = 1)."""

    phi: float
    rung: int
    study: Study

    @property
    def label(self) -> str:
        """The name that users see; empty for the full schedule at φ = 1."""
        if self.rung:
            return f"{self.rung}-epoch schedule"
        return "" if self.phi == 1 else f"φ = {self.phi:g}"


def parts_of(study: Study) -> tuple[Part, ...]:
    """The parts of `study`, each stored under a different name: φ = 1 first, then other levels, then rungs."""
    levels = [Part(phi, 0, _level(study, phi)) for phi in sorted(study.phi, key=lambda phi: (phi != 1, phi))]
    return (*levels, *(Part(1.0, rung, _rung(study, rung)) for rung in sorted(study.rungs)))


def plans_of(study: Study) -> tuple[tuple[Part, Plan], ...]:
    """The parts of `study`, each with its plan. Raises `InputError` as `make_plan`, or if the levels are too much."""
    plans: list[tuple[Part, Plan]] = []
    for part in parts_of(study):
        # Rungs train the candidates of the full schedule, which pruning shuffles.
        plan = plans[0][1] if part.rung and not study.prune else make_plan(part.study)
        plans.append((part, plan))
        if len(plans) > 1 and sum(plan.feasible for part, plan in plans if not part.rung) > _MOST_FEASIBLE:
            raise InputError(
                f"`phi` must leave at most {_MOST_FEASIBLE:,} networks to choose from, but {list(study.phi)} leaves "
                "more: take fewer levels, or a smaller tolerance"
            )
    return tuple(plans)


def derived(study: Study, **changes: Any) -> Study:
    """`study` with `changes`, as a study of a single part."""
    document: Mapping[str, Any] = {**study.model_dump(mode="json"), "phi": [1.0], "rungs": [], **changes}
    return parse_study(document, f"study {document['name']}")


def _level(study: Study, phi: float) -> Study:
    if phi == 1:
        return derived(study)
    return derived(study, name=f"{study.name}-phi-{phi:g}", budget=study.budget**phi)


def _rung(study: Study, epochs: int) -> Study:
    """The schedule compressed to `epochs`, warm-up included. Nothing is pruned, so that all candidates are compared."""
    warm_up = study.training.warmup_epochs * epochs / study.training.epochs
    training = {**study.training.model_dump(mode="json"), "epochs": epochs, "warmup_epochs": warm_up}
    return derived(study, name=f"{study.name}-epochs-{epochs}", prune=False, training=training)
