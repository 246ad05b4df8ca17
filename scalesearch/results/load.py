"""A run folder, read: `load` gives a `Run`, its tables, choice, rule, family and figures."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scalesearch.analysis.agreement import agreement
from scalesearch.analysis.choice import Choice, choose, rule_of
from scalesearch.analysis.schedule import schedule_table, warning
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.analysis.surfaces.polynomial import fit_surface
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.analysis.validation import Validation, read_validations
from scalesearch.errors import InputError
from scalesearch.report.markup import markup
from scalesearch.results.records import DONE, TrialRecord, candidate_to_json
from scalesearch.scaling.explain import Explanation, explain
from scalesearch.scaling.family import REPORTED_PHIS, Family, family
from scalesearch.scaling.feasible import Candidate, feasible_set
from scalesearch.scaling.rule import ScalingRule
from scalesearch.search.plan.design import snap
from scalesearch.search.plan.parts import parts_of
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import Storage, open_storage, sqlite_url, study_names
from scalesearch.study.load import load_study
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    import plotly.graph_objects as go

_ANALYSIS = ("scalesearch", "numpy", "pandas", "scikit-learn", "scipy", "statsmodels")


@dataclass(frozen=True)
class Run:
    """What a run folder holds so far.

    `records` are those of the whole schedule, of all levels φ; `rungs` those of shorter schedules, by their epochs.
    `states` counts trials waiting, running, complete, pruned and failed; `date` is that of the last one that ended.
    """

    folder: Path
    study: Study
    records: tuple[TrialRecord, ...]
    rungs: Mapping[int, tuple[TrialRecord, ...]]
    states: Mapping[str, int]
    fingerprint: Mapping[str, Any]
    date: str | None

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a candidate and seed; columns as `analysis.tables.TRIAL_COLUMNS`."""
        return trials_table(self.records)

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """One row a candidate, best first; columns as `analysis.tables.CANDIDATE_COLUMNS`."""
        return candidates_table(self.records, self.study.budget, self.study.metric, self.trials)

    @cached_property
    def choice(self) -> Choice:
        """The chosen shares and what they rest on. Raises `InsufficientTrials` where no candidate finished."""
        return choose(self.trials, self.candidates, self.study.budget, self.study.metric)

    @cached_property
    def schedule(self) -> pd.DataFrame:
        """The rungs against the whole schedule; columns as `analysis.schedule.COLUMNS`."""
        own = [record for record in self.records if record.phi == 1]
        return schedule_table(self.rungs, own, self.choice, self.study.budget)

    @property
    def schedule_warning(self) -> str:
        """What the rungs say against the rule; empty where they say nothing."""
        return warning(self.schedule)

    def surface(self) -> Surface:
        """The response surface of the choice. Raises `InsufficientTrials` where it cannot be fitted yet."""
        return self.choice.surface or fit_surface(self.candidates, self.study.budget, self.study.metric)

    @cached_property
    def rule(self) -> ScalingRule:
        """The rule that the trials so far give; with the trials all done, that of coefficients.json."""
        devices = sorted({record.device for record in self.records if record.failure is None})
        provenance = {
            "date": self.date,
            "versions": _versions(self.records),
            "analysis_versions": {name: importlib.metadata.version(name) for name in _ANALYSIS},
            "device": ", ".join(devices),
            "trials": dict(self.states),
            "study": self.study.name,
            "fingerprint": dict(self.fingerprint),
            "where": self.choice.where,
            "phi": sorted({record.phi for record in self.records}),
            "schedule": json.loads(self.schedule.to_json(orient="records")),
            "signal": dataclasses.asdict(self.choice.signal),
            "chances": _chances(self.candidates),
        }
        return rule_of(self.choice, self.study, provenance)

    def family(self, phis: Sequence[float] = REPORTED_PHIS) -> Family:
        """The baseline scaled up by the rule."""
        return family(self.rule, phis)

    def explain(self, phis: Sequence[float] = REPORTED_PHIS) -> Explanation:
        """The family's nominal and real cost, and what lies between them."""
        return explain(self.rule.baseline, self.rule.coefficients, phis)

    @cached_property
    def nearest(self) -> Candidate:
        """The network nearest to the choice that costs the budget within the tolerance: φ = 1 as one would build it.

        The family's φ = 1 rounds each multiplier by itself, and may cost more or less.
        """
        baseline = self.study.resolved_baseline()
        found = feasible_set(baseline.spec, baseline.rounding, self.study.budget, self.study.tolerance)
        return snap(found.without_twins(), self.choice.shares, self.study.budget, ()).candidate

    @property
    def failed(self) -> int:
        """How many trials failed."""
        return self.states["failed"]

    @cached_property
    def validations(self) -> tuple[Validation, ...]:
        """What `validate` found, by φ; empty before it ran."""
        return read_validations(self.folder)

    def triangle(self) -> go.Figure:
        """The triangle of shares with candidates, surface, choice and confidence region."""
        from scalesearch.report.figures import candidates as figures

        choice = self.choice if self.has_result else None
        return figures.triangle(self.candidates, choice, self.study.metric, self.study.budget)

    def leaderboard(self) -> go.Figure:
        """Candidates, best first, with their seeds' spread."""
        from scalesearch.report.figures import candidates as figures

        return figures.leaderboard(self.candidates, self.trials, self.study.metric)

    def learning_curves(self) -> go.Figure:
        """Training and validation over epochs."""
        from scalesearch.report.figures import candidates as figures

        return figures.learning_curves(self.records, self.study.metric)

    def error_distribution(self) -> go.Figure:
        """The empirical distribution function of the candidates' validation errors."""
        from scalesearch.report.figures import candidates as figures

        return figures.error_distribution(self.candidates)

    def accuracy_over(self, cost: str) -> go.Figure:
        """Validation accuracy over a cost: `macs`, `activations` or `seconds` (training time of a seed)."""
        from scalesearch.report.figures import candidates as figures

        return figures.accuracy_over(self.candidates, cost)

    def validation_over_macs(self) -> go.Figure:
        """The rule and its rivals on the test split over macs, for the φ that were validated."""
        from scalesearch.report.figures import candidates as figures

        return figures.validation_over_macs({one.phi: one.table for one in self.validations}, self.study.metric)

    def _repr_html_(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.states.items() if count)
        title = f"{self.study.name}: {counts or 'no trials'}"
        if not self.has_result:
            return markup(title, (), (), "No candidate has finished.")
        return markup(title, (), (), self.choice.signal.verdict, self.choice.certainty) + self.rule._repr_html_()

    @property
    def has_result(self) -> bool:
        """Whether a candidate finished, so that something can be chosen."""
        return any(record.failure is None for record in self.records)

    def status(self) -> dict[str, Any]:
        """How far the run is, as a JSON object."""
        best = self.candidates[self.candidates["status"].eq(DONE)].head(5)
        return {
            "study": self.study.name,
            "budget": self.study.budget,
            "metric": self.study.metric,
            "trials": dict(self.states),
            "leaders": json.loads(best.to_json(orient="records")),
            "signal": dataclasses.asdict(self.choice.signal) if self.has_result else None,
        }

    def to_json(self) -> dict[str, Any]:
        """What `run --json` prints: status, rule, family and files."""
        return {
            **self.status(),
            "rule": self.rule.to_json() if self.has_result else None,
            "nearest": candidate_to_json(self.nearest) if self.has_result else None,
            "family": [member.to_json() for member in self.family()] if self.has_result else [],
            "folder": str(self.folder),
            "files": [path.name for path in self.files()],
        }

    def files(self) -> tuple[Path, ...]:
        """The files that the folder holds."""
        return tuple(sorted(path for path in self.folder.iterdir() if not path.name.startswith(".")))


def open_run(folder: Path, storage: str | None = None) -> tuple[Study, Storage]:
    """The study of the run in `folder` and its storage, to be read; `storage` as in `load`, which raises the same."""
    if not (folder / "study.toml").is_file():
        raise InputError(f"{folder}: no run there (a run folder holds a study.toml)")
    study = load_study(folder / "study.toml")
    if storage is None and not (folder / "study.db").is_file():
        raise InputError(f"{folder}: no study.db there yet; the study's storage is elsewhere: give --storage")
    return study, open_storage(storage or sqlite_url(folder), read_only=True)


def load(folder: str | Path, storage: str | None = None) -> Run:
    """The run in `folder`, finished or not; `storage` reads a live study from a server instead of study.db.

    Raises `InputError` where the folder holds no run.
    """
    folder = Path(folder)
    study, opened = open_run(folder, storage)
    own, names = studies.join_study(opened, study.name), study_names(opened)
    records: list[TrialRecord] = []
    rungs: dict[int, tuple[TrialRecord, ...]] = {}
    states, dates = Counter[str](), []
    for part in parts_of(study):
        if part.study.name not in names:
            continue  # interrupted before it began, or from before the study had this part
        stored = studies.join_study(opened, part.study.name)
        found = studies.snapshot(stored)
        if part.rung:
            rungs[part.rung] = found.records
        else:
            records += [dataclasses.replace(record, phi=part.phi) for record in found.records]
        states.update(found.states)
        dates.append(found.last_date)
    date = max((day for day in dates if day), default=None)
    return Run(folder, study, tuple(records), rungs, dict(states), studies.fingerprint_of(own), date)


def compare(first: Run, second: Run) -> pd.DataFrame:
    """Two runs side by side, and whether they contradict each other; columns as `analysis.agreement.COLUMNS`.

    Raises `InsufficientTrials` where no candidate of one finished.
    """
    return agreement(*((run.study.name, run.rule, run.choice) for run in (first, second)))


def _chances(candidates: pd.DataFrame) -> dict[str, float | None]:
    """Of each finished candidate, by its number in candidates.csv, the chance of being the best."""
    done = candidates[candidates["status"].eq(DONE)]
    return {
        str(number): None if math.isnan(chance) else chance
        for number, chance in zip(done["candidate"].tolist(), done["chance"].tolist(), strict=True)
    }


def _versions(records: Sequence[TrialRecord]) -> dict[str, str]:
    """Of each package all versions that trained some record."""
    found: dict[str, set[str]] = {}
    for name, version in (pair for record in records for pair in record.versions):
        found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}
