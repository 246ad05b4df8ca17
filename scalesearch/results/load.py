"""Reads a run folder: `load` gives a `Run`, `compare` sets two runs side by side."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scalesearch.analysis.agreement import agreement
from scalesearch.analysis.outcome import Outcome
from scalesearch.analysis.tables import OPTIONAL_COLUMNS
from scalesearch.analysis.validation import Validation, read_validations
from scalesearch.results.live import LiveRun, open_run
from scalesearch.results.records import candidate_to_json

if TYPE_CHECKING:
    import plotly.graph_objects as go

# What is said of the baseline, of `tables.CANDIDATE_COLUMNS`.
_REFERENCE = [
    "macs", "macs_ratio", "params", "activations", "seeds", "val_loss", "val_loss_sd", "val_accuracy",
    "val_accuracy_sd", "seconds", "images_per_second", "status", "failure",
]  # fmt: skip


@dataclass(frozen=True)
class Run(Outcome):
    """What a run folder holds so far: what its records say (see `Outcome`), its validations, figures and files."""

    folder: Path
    stored_as: str = field(kw_only=True, repr=False)
    """The name of its stored study; that of the study, unless its schedule was extended."""

    @property
    def failed(self) -> int:
        """How many trials failed."""
        return self.states["failed"]

    @property
    def is_fruitless(self) -> bool:
        """Whether the search has ended, and nothing was learned."""
        return self.has_result and not self.has_rule and not self.trials_left

    @cached_property
    def validations(self) -> tuple[Validation, ...]:
        """The results of `validate`, by φ; empty before it ran."""
        return read_validations(self.folder)

    def files(self) -> tuple[Path, ...]:
        """The files in the folder."""
        return tuple(sorted(path for path in self.folder.iterdir() if not path.name.startswith(".")))

    # Figures. Plotly is imported when the first one is drawn.

    def triangle(self) -> go.Figure:
        """The triangle of shares with candidates, surface, choice and confidence region."""
        from scalesearch.report.figures import candidates as figures

        choice = self.choice if self.has_rule else None
        return figures.triangle(self.candidates, choice, self.study.metric, self.study.budget)

    def leaderboard(self) -> go.Figure:
        """The best candidates with the spread of their seeds."""
        from scalesearch.report.figures import candidates as figures

        return figures.leaderboard(self.candidates, self.trials, self.study.metric, self.reference)

    def learning_curves(self) -> go.Figure:
        """The metric over the epochs."""
        from scalesearch.report.figures import candidates as figures

        return figures.learning_curves(self.records, self.study.metric, self.reference)

    def error_distribution(self) -> go.Figure:
        """The empirical distribution function of the candidates' validation errors."""
        from scalesearch.report.figures import candidates as figures

        return figures.error_distribution(self.candidates)

    def accuracy_over(self, cost: str) -> go.Figure:
        """Validation accuracy over a cost: `macs`, `activations` or `seconds` (training time of one seed)."""
        from scalesearch.report.figures import candidates as figures

        return figures.accuracy_over(self.candidates, cost)

    def validation_over_macs(self) -> go.Figure:
        """The rule and its rivals on the test split over macs, for each validated φ."""
        from scalesearch.report.figures import candidates as figures

        return figures.validation_over_macs({one.phi: one.table for one in self.validations}, self.study.metric)

    # JSON of the command line.

    def reference_json(self) -> dict[str, Any]:
        """What reference.json holds: the baseline's results, and how the candidates stand."""
        known = [*_REFERENCE, *(name for name in OPTIONAL_COLUMNS if name in self.baseline)]
        (row,) = json.loads(self.baseline[known].to_json(orient="records")) or [None]
        spec = {} if self.reference is None else {"spec": self.reference.candidate.spec.to_json()}
        return {
            "reference": row and {"name": self.study.baseline.name, **row, **spec},
            "standing": self.standing.to_json() if self.has_result else None,
        }

    def to_json(self) -> dict[str, Any]:
        """What `run --json` prints: status, rule, family and files."""
        return {
            **self.status(),
            "rule": self.rule.to_json() if self.has_rule else None,
            "nearest": candidate_to_json(self.nearest) if self.has_rule else None,
            "family": [member.to_json() for member in self.family()] if self.has_rule else [],
            "folder": str(self.folder),
            "files": [path.name for path in self.files()],
            **self.reference_json(),
        }


def load(folder: str | Path, storage: str | None = None) -> Run:
    """The run in `folder`, finished or not.

    Args:
        folder: a run folder.
        storage: an SQLAlchemy URL, to read a live study from a server instead of the folder's study.db.

    Raises:
        InputError: if the folder holds no run.
        StorageError: if the storage cannot be read or does not hold the study.
    """
    folder = Path(folder)
    live = LiveRun(*open_run(folder, storage))
    outcome = live.look()
    values = {each.name: getattr(outcome, each.name) for each in dataclasses.fields(outcome)}
    return Run(**values, folder=folder, stored_as=live.stored_as)


def compare(first: Run, second: Run) -> pd.DataFrame:
    """Two runs side by side, and whether they contradict each other; columns are `analysis.agreement.COLUMNS`.

    Raises `InsufficientTrials` if a run has no finished candidate.
    """
    return agreement(*((run.study.name, run.rule, run.choice) for run in (first, second)))
