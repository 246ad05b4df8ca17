"""A run folder, written: `save_study` its settings, `finish` its tables, rule and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from scalesearch.runtime.files import write_text
from scalesearch.search.queue import dashboard
from scalesearch.search.queue.storage import sqlite_url
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    from scalesearch.results.load import Run


def save_study(folder: Path, study: Study) -> None:
    """Write the effective study, flags included, as study.toml."""
    write_text(folder / "study.toml", study_text(study))


def study_text(study: Study) -> str:
    """The TOML of `study`."""
    return tomli_w.dumps(study.model_dump(mode="json", exclude_none=True))


def finish(run: Run, storage: str | None = None) -> None:
    """Write the run's tables, coefficients.json and report.html, as far as its trials go; and `publish`."""
    from scalesearch.analysis.tables import write_tables

    write_tables(run.folder, run.trials, run.candidates)
    if run.has_result:
        write_text(run.folder / "coefficients.json", json.dumps(run.rule.to_json(), indent=2) + "\n")
    write_text(run.folder / "report.html", _page(run))
    publish(run, storage)


def _page(run: Run) -> str:
    import pandas as pd

    from scalesearch.report.html import render

    return render(
        study=run.study,
        states=run.states,
        rule=run.rule if run.has_result else None,
        choice=run.choice if run.has_result else None,
        trials=run.trials,
        candidates=run.candidates,
        records=run.records,
        validations=run.validations,
        schedule=run.schedule if run.has_result else pd.DataFrame(),
    )


def publish(run: Run, storage: str | None = None) -> None:
    """Save what Optuna's dashboard shows of a result into the folder's study and, if given, into that in `storage`.

    Nothing happens without a result, or where the dashboard is not installed.
    """
    from scalesearch.report.note import card, note

    if not (run.has_result and dashboard.installed()):
        return
    verdicts = {one.phi: one.verdict for one in run.validations}
    told = note(
        name=run.study.name,
        rule=run.rule,
        choice=run.choice,
        candidates=run.candidates,
        verdicts=verdicts,
        warning=run.schedule_warning,
    )
    figures = {"triangle": card(run.triangle()), "leaderboard": card(run.leaderboard())}
    own = sqlite_url(run.folder) if (run.folder / "study.db").is_file() else None
    for url in filter(None, (own, storage)):
        dashboard.save(url, run.study.name, told, figures)
