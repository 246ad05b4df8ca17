"""Writes a run folder: `save_study` the study, `finish` tables, rule and report, `publish` the dashboard's note."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from scalesearch.export.rule_json import REFERENCE_FILE, rule_text
from scalesearch.runtime.files import write_text
from scalesearch.search.queue import dashboard
from scalesearch.search.queue.storage import sqlite_url
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    from scalesearch.results.load import Run


def save_study(folder: Path, study: Study) -> None:
    """Writes the effective study, flags included, as study.toml; beside it, copies of the user's own modules."""
    write_text(folder / "study.toml", study_text(study))
    for module, path in study.baseline.own_files().items():
        if "." not in module:  # a package is found where it is installed
            write_text(folder / path.name, path.read_text(encoding="utf-8"))


def study_text(study: Study) -> str:
    """The TOML of `study`."""
    return tomli_w.dumps(study.model_dump(mode="json", exclude_none=True))


def finish(run: Run, storage: str | None = None) -> None:
    """Writes tables, coefficients.json, region.csv, reference.json and report.html, and calls `publish`.

    All of them as far as the trials go; there is no coefficients.json if nothing was learned.
    """
    from scalesearch.analysis.table_files import write_region, write_tables
    from scalesearch.report.html import render

    write_tables(run.folder, run.trials, run.candidates)
    if run.has_rule:
        write_text(run.folder / "coefficients.json", rule_text(run.rule))
        write_region(run.folder, None if run.choice.region is None else run.choice.region.points)
    elif run.has_result:  # an earlier rule must not mislead
        for name in ("coefficients.json", "region.csv"):
            (run.folder / name).unlink(missing_ok=True)
    if run.reference is not None or (run.has_result and not run.has_rule):
        write_text(run.folder / REFERENCE_FILE, json.dumps(run.reference_json(), indent=2, ensure_ascii=False) + "\n")
    write_text(run.folder / "report.html", render(run, run.validations))
    publish(run, storage)


def publish(run: Run, storage: str | None = None) -> None:
    """Saves note and figures for Optuna's dashboard into the folder's study and, if given, into that in `storage`.

    Does nothing without a result, or if the dashboard is not installed.
    """
    from scalesearch.report.note import card, note

    if not (run.has_result and dashboard.installed()):
        return
    # Without a rule the note says so: an earlier one must not mislead.
    text = note(run, run.validations)
    figures = {"triangle": card(run.triangle()), "leaderboard": card(run.leaderboard())}
    local = sqlite_url(run.folder) if (run.folder / "study.db").is_file() else None
    for url in filter(None, (local, storage)):
        dashboard.save(url, run.stored_as, text, figures)
