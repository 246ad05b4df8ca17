"""What the records of a study say: tables, choice, rule and family, each computed when it is first asked for."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from scalesearch.analysis.choice import Choice, choose, rule_of
from scalesearch.analysis.schedule import schedule_table, warning
from scalesearch.analysis.standing import Standing, standing_of
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.analysis.surfaces.polynomial import fit_polynomial
from scalesearch.analysis.tables import SHARE_COLUMNS, candidates_table, trials_table
from scalesearch.errors import InputError
from scalesearch.results.records import DONE, NOTHING_LEARNED, TrialRecord
from scalesearch.scaling.explain import Explanation, explain_members
from scalesearch.scaling.family import REPORTED_PHIS, Family, family
from scalesearch.scaling.feasible import Candidate, feasible_set
from scalesearch.scaling.rule import ScalingRule
from scalesearch.study.sections import Study

# Candidates that `status` lists.
_LEADERS = 5
# Packages whose versions can change what the same records say.
_ANALYSIS_PACKAGES = ("scalesearch", "numpy", "pandas", "scikit-learn", "scipy", "statsmodels")


class NothingLearned(InputError):
    """There is no rule, because no candidate is better than guessing; the message says what to change."""


@dataclass(frozen=True)
class Outcome:
    """What the records of a study say so far.

    Attributes:
        study: the study that the records belong to.
        records: trials of the whole schedule, of all levels φ.
        rungs: trials of shorter schedules, by their number of epochs.
        states: number of trials that are waiting, running, complete, pruned and failed.
        fingerprint: everything in the study that changes results; it goes into the rule's provenance.
        date: when the last trial ended (ISO); None before the first.
        reference: the trial of the baseline itself, at φ = 0; None before it ended, and in runs of older versions.
    """

    study: Study
    records: tuple[TrialRecord, ...] = field(repr=False)
    rungs: Mapping[int, tuple[TrialRecord, ...]] = field(repr=False)
    states: Mapping[str, int]
    fingerprint: Mapping[str, Any] = field(repr=False)
    date: str | None
    reference: TrialRecord | None = field(default=None, kw_only=True, repr=False)

    @property
    def has_result(self) -> bool:
        """Whether a candidate finished."""
        return any(record.failure is None for record in self.records)

    @property
    def has_rule(self) -> bool:
        """Whether something can be chosen: a candidate finished, and one is better than guessing."""
        return self.has_result and self.standing.state != NOTHING_LEARNED

    @cached_property
    def standing(self) -> Standing:
        """The candidates against guessing and the baseline. Raises `InsufficientTrials` if no candidate finished."""
        classes = self.study.resolved_baseline().spec.num_classes
        return standing_of(self.records, self.trials, self.reference, self.study.metric, classes)

    @property
    def trials_left(self) -> int:
        """How many trials are waiting or running."""
        return self.states["waiting"] + self.states["running"]

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row for each candidate and seed; columns are `analysis.tables.TRIAL_COLUMNS`."""
        return trials_table(self.records)

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """One row for each candidate, best first; columns are `analysis.tables.CANDIDATE_COLUMNS`."""
        return candidates_table(self.records, self.study.budget, self.study.metric, self.trials)

    @cached_property
    def baseline(self) -> pd.DataFrame:
        """The reference in a row like those of `candidates`; no row without it. It has no shares and no chance."""
        reference = () if self.reference is None else (self.reference,)
        shares = dict.fromkeys(SHARE_COLUMNS, math.nan)
        return candidates_table(reference, self.study.budget, self.study.metric).assign(**shares, chance=math.nan)

    @cached_property
    def choice(self) -> Choice:
        """The chosen shares and what they rest on. Raises `InsufficientTrials` if no candidate finished."""
        return choose(self.trials, self.candidates, self.study.budget, self.study.metric)

    @cached_property
    def schedule(self) -> pd.DataFrame:
        """The rungs against the whole schedule; columns are `analysis.schedule.COLUMNS`. Raises as `choice`."""
        # Without rungs there is nothing to compare, and with many records even their table takes a second.
        whole = [record for record in self.records if record.phi == 1] if self.rungs else ()
        return schedule_table(self.rungs, whole, self.choice, self.study.budget)

    @property
    def schedule_warning(self) -> str:
        """What the rungs say against the rule; empty if nothing."""
        return warning(self.schedule)

    def surface(self) -> Surface:
        """The response surface of the choice. Raises `InsufficientTrials` if there are too few candidates for one."""
        return self.choice.surface or fit_polynomial(self.candidates, self.study.budget, self.study.metric)

    @cached_property
    def rule(self) -> ScalingRule:
        """The rule that the trials so far give; once all are done, the rule of coefficients.json.

        Raises `NothingLearned` if no candidate is better than guessing, `InsufficientTrials` if none finished.
        """
        if self.standing.state == NOTHING_LEARNED:
            raise NothingLearned(self.standing.answer)
        devices = sorted({record.device for record in self.records if record.failure is None})
        provenance = {
            "date": self.date,
            "versions": _versions(self.records),
            "analysis_versions": {name: importlib.metadata.version(name) for name in _ANALYSIS_PACKAGES},
            "device": ", ".join(devices),
            "trials": dict(self.states),
            "study": self.study.name,
            "fingerprint": dict(self.fingerprint),
            "where": self.choice.where,
            "phi": sorted({record.phi for record in self.records}),
            "schedule": json.loads(self.schedule.to_json(orient="records")),
            "signal": dataclasses.asdict(self.choice.signal),
            "chances": _chances(self.candidates),
            **({} if self.reference is None else {"standing": self.standing.to_json()}),
        }
        return rule_of(self.choice, self.study, provenance)

    def status(self) -> dict[str, Any]:
        """How far the search is, as a JSON object."""
        best = self.candidates[self.candidates["status"].eq(DONE)].head(_LEADERS)
        return {
            "study": self.study.name,
            "budget": self.study.budget,
            "metric": self.study.metric,
            "trials": dict(self.states),
            "leaders": json.loads(best.to_json(orient="records")),
            "signal": dataclasses.asdict(self.choice.signal) if self.has_result else None,
        }

    def family(self, phis: Iterable[float] | float = REPORTED_PHIS) -> Family:
        """The networks of the rule's family that really cost B^φ, for one φ or several."""
        return family(self.rule, phis, tolerance=self.study.tolerance)

    def explain(self, phis: Iterable[float] | float = REPORTED_PHIS) -> Explanation:
        """The family's nominal and real cost, and the factors between them."""
        rule, tolerance = self.rule, self.study.tolerance
        return explain_members(rule.baseline, rule.coefficients, self.family(phis), tolerance)

    @cached_property
    def nearest(self) -> Candidate:
        """The network nearest to the choice that costs the budget within the tolerance: φ = 1 of the family."""
        baseline = self.study.resolved_baseline()
        feasible = feasible_set(
            baseline.spec, baseline.rounding, self.study.budget, self.study.tolerance, self.study.cost
        )
        return feasible.without_twins().nearest(self.choice.shares, self.study.budget)


def _chances(candidates: pd.DataFrame) -> dict[str, float | None]:
    """Each finished candidate's chance of being the best, by its number in candidates.csv."""
    done = candidates[candidates["status"].eq(DONE)]
    return {
        str(number): None if math.isnan(chance) else chance
        for number, chance in zip(done["candidate"].tolist(), done["chance"].tolist(), strict=True)
    }


def _versions(records: Sequence[TrialRecord]) -> dict[str, str]:
    """For each package all versions that trained a record."""
    versions: dict[str, set[str]] = {}
    for name, version in (pair for record in records for pair in record.versions):
        versions.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(numbers)) for name, numbers in versions.items()}
