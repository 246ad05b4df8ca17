"""Reports of planted records, as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scalesearch.analysis.outcome import Outcome
from scalesearch.analysis.validation import Validation, validation_table, verdict
from scalesearch.report.html import render
from scalesearch.results.records import TrialRecord
from tests.planted import PlantedSurface, planted_records, planted_study

FINISHED = {"waiting": 0, "running": 0, "complete": 15, "pruned": 0, "failed": 0}


def outcome(
    name: str,
    records: tuple[TrialRecord, ...],
    *,
    where: str = "cpu",
    metric: str = "val_loss",
    states: Mapping[str, int] = FINISHED,
    rungs: Mapping[int, tuple[TrialRecord, ...]] | None = None,
) -> Outcome:
    """What `records` say of a planted study called `name`; they were trained on the device `where`."""
    study = planted_study(seeds=3, metric=metric).model_copy(update={"name": name})
    trained = tuple(replace(record, device=where, versions=(("scalesearch", "0.1.0"),)) for record in records)
    return Outcome(study, trained, rungs or {}, states, {"study": "planted"}, "2026-11-24")


def report(path: Path, name: str, records: tuple[TrialRecord, ...], **options: Any) -> str:
    """Writes the report of `records` to `path`.

    `options` are those of `outcome`, and `validations`: by default those at φ = 1 and 2.
    """
    validated = options.pop("validations", validations(options.get("metric", "val_loss")))
    page = render(outcome(name, records, **options), validated)
    path.write_text(page, encoding="utf-8")
    return page


def level_records() -> tuple[TrialRecord, ...]:
    """The planted candidates of budgets 2 and 4, as the levels 1 and 2 of one study."""
    return tuple(
        replace(record, phi=phi) for phi in (1.0, 2.0) for record in planted_records(PlantedSurface(budget=2.0**phi))
    )


def validations(metric: str = "val_loss") -> tuple[Validation, ...]:
    """Six planted candidates at φ = 1 and 2, each with its split, the second one the rule's."""
    made = []
    for phi in (1.0, 2.0):
        records = planted_records(PlantedSurface(budget=2.0**phi))[:6]
        names = {record.candidate.spec: (f"split {place}",) for place, record in enumerate(records)}
        table = validation_table(records, names, "split 1", metric)
        made.append(Validation(phi, 2.0**phi, "2026-11-24", "digest", verdict(table), table))
    return tuple(made)
