"""Reports of planted records, as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from scalesearch.analysis.choice import choose, rule_of
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.analysis.validation import Validation, validation_table, verdict
from scalesearch.report.html import render
from scalesearch.results.records import TrialRecord
from tests.planted import PlantedSurface, planted_records, planted_study

FINISHED = {"waiting": 0, "running": 0, "complete": 15, "pruned": 0, "failed": 0}


def report(
    path: Path,
    name: str,
    records: tuple[TrialRecord, ...],
    where: str = "cpu",
    metric: str = "val_loss",
    **changes: Any,
) -> str:
    """Write the report of `records`, validated at φ = 1 and 2, to `path`; `changes` replace arguments of `render`."""
    study = planted_study(seeds=3, metric=metric).model_copy(update={"name": name})
    candidates = candidates_table(records, 2.0, metric)
    finished = any(record.failure is None for record in records)
    choice = choose(trials_table(records), candidates, 2.0, metric) if finished else None
    page = render(
        **{
            "study": study,
            "states": FINISHED,
            "rule": choice and rule_of(choice, study, {"device": where, "versions": {"scalesearch": "0.1.0"}}),
            "choice": choice,
            "trials": trials_table(records),
            "candidates": candidates,
            "records": records,
            "validations": validations(metric),
            "schedule": pd.DataFrame(),
            **changes,
        }
    )
    path.write_text(page, encoding="utf-8")
    return page


def level_records() -> tuple[TrialRecord, ...]:
    """The planted candidates of budgets 2 and 4, as the levels 1 and 2 of one study."""
    return tuple(
        replace(record, phi=phi) for phi in (1.0, 2.0) for record in planted_records(PlantedSurface(budget=2.0**phi))
    )


def validations(metric: str = "val_loss") -> tuple[Validation, ...]:
    """Six planted candidates at φ = 1 and 2, each a split of its own, the second one the rule's."""
    found = []
    for phi in (1.0, 2.0):
        records = planted_records(PlantedSurface(budget=2.0**phi))[:6]
        names = {record.candidate.spec: (f"split {place}",) for place, record in enumerate(records)}
        table = validation_table(records, names, "split 1", metric)
        found.append(Validation(phi, 2.0**phi, "2026-11-24", "digest", verdict(table), table))
    return tuple(found)
