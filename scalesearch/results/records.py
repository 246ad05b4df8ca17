"""Trial records: what the training of one candidate left behind, and its JSON form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.cost.count import Complexity
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.simplex import Shares
from scalesearch.study.documents import FROM_LIST, FROM_OBJECT, Section, Spec, read

# What the tables call a trial that finished, a seed of a trial that did not, and a trial that was pruned or failed.
DONE, PARTIAL, PRUNED, FAILED = "done", "partial", "pruned", "failed"

# The state of a run whose candidates are no better than guessing: it has no rule.
NOTHING_LEARNED: Final = "nothing learned"

FailureKind = Literal["diverged", "out-of-memory", "error", "interrupted", "stale", "pruned"]


Curve = Annotated[tuple[float, ...], FROM_LIST]
"""One value per epoch."""


@dataclass(frozen=True, slots=True)
class SeedRecord:
    """One training run. The metrics are those of the last epoch.

    Balanced accuracy is recorded where classes are uneven.
    """

    seed: int
    train_loss: Curve
    val_loss_curve: Curve
    val_accuracy_curve: Curve
    train_seconds: float
    val_balanced_accuracy_curve: Curve = ()

    @property
    def val_loss(self) -> float:
        """Mean cross-entropy on the validation split after the last epoch, in nats, without label smoothing."""
        return self.val_loss_curve[-1]

    @property
    def val_accuracy(self) -> float:
        """Fraction of the validation split classified right after the last epoch."""
        return self.val_accuracy_curve[-1]

    @property
    def val_balanced_accuracy(self) -> float:
        """Mean over the classes of the fraction of each that is classified right; NaN if it was not recorded."""
        return self.val_balanced_accuracy_curve[-1] if self.val_balanced_accuracy_curve else math.nan

    def to_json(self) -> dict[str, Any]:
        """The fields; without a curve of balanced accuracy if there is none."""
        values = dataclasses.asdict(self)
        if not self.val_balanced_accuracy_curve:
            del values["val_balanced_accuracy_curve"]
        return values


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a trial has no result."""

    kind: FailureKind
    reason: str


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One candidate trained for its seeds, or why it was not; if it was pruned, `seeds` holds its training until then.

    `versions` are those of the packages that trained it, as (name, version). `phi` is the level of its study; it is not
    stored, because the study implies it.
    """

    candidate: Candidate
    seeds: tuple[SeedRecord, ...]
    failure: Failure | None
    compile_seconds: float
    images_per_second: float
    device: str
    versions: tuple[tuple[str, str], ...]
    phi: float = 1.0

    def __post_init__(self) -> None:
        if self.failure is None and not self.seeds:
            raise ValueError("a trial record needs at least one seed's result or a failure, but got neither")

    @property
    def status(self) -> str:
        """`DONE`, `PRUNED` or `FAILED`."""
        if self.failure is None:
            return DONE
        return PRUNED if self.failure.kind == "pruned" else FAILED

    def mean(self, metric: str) -> float:
        """Mean over the seeds of `val_loss` or `val_accuracy`; NaN for a failed trial."""
        if not self.seeds:
            return math.nan
        return math.fsum(getattr(seed, metric) for seed in self.seeds) / len(self.seeds)


def merged_records(records: Sequence[TrialRecord]) -> dict[int, TrialRecord]:
    """Number of the candidate, as in the tables → its record, with the seeds of all its trials.

    If its last trial failed, the record of that trial. Otherwise, if a seed was trained twice, the later result stays.
    A trial of further seeds does not make good an earlier one that failed.
    """
    merged: dict[int, TrialRecord] = {}
    for number, record in zip(candidate_numbers(records), records, strict=True):
        earlier = merged.get(number)
        if earlier is not None and earlier.failure is not None and record.failure is None and record.seeds[0].seed != 0:
            continue
        seeds = {seed.seed: seed for seed in record.seeds}
        if earlier is not None and earlier.failure is None and record.failure is None:
            seeds = {seed.seed: seed for seed in earlier.seeds} | seeds
        merged[number] = dataclasses.replace(record, seeds=tuple(seeds[seed] for seed in sorted(seeds)))
    return merged


def candidate_numbers(records: Sequence[TrialRecord]) -> list[int]:
    """For each record the number of its network, counted from 0 by first appearance."""
    numbers: dict[ArchitectureSpec, int] = {}
    return [numbers.setdefault(record.candidate.spec, len(numbers)) for record in records]


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:
    """The object of the contract: realised α, β, γ, shares of real cost, nominal α, β, γ, exact counts, spec."""
    return {
        **dataclasses.asdict(candidate.coefficients),
        "shares": dataclasses.asdict(candidate.shares),
        "nominal": dataclasses.asdict(candidate.nominal),
        "macs": candidate.complexity.macs,
        "macs_ratio": candidate.cost_ratio,
        "params": candidate.complexity.params,
        "activations": candidate.complexity.activations,
        "spec": candidate.spec.to_json(),
    }


def record_to_json(record: TrialRecord) -> dict[str, Any]:
    """The record as a JSON object; `record_from_json` reads it back exactly."""
    return {
        "candidate": candidate_to_json(record.candidate),
        "seeds": [seed.to_json() for seed in record.seeds],
        "failure": dataclasses.asdict(record.failure) if record.failure else None,
        "compile_seconds": record.compile_seconds,
        "images_per_second": record.images_per_second,
        "device": record.device,
        "versions": dict(record.versions),
    }


class _CandidateDocument(Section):
    alpha: float
    beta: float
    gamma: float
    shares: Annotated[Shares, FROM_OBJECT]  # of α·β²·γ² in records of 2026-11-28 and before
    nominal: Annotated[Coefficients, FROM_OBJECT]
    macs: int
    macs_ratio: float
    params: int
    activations: int
    spec: Spec

    def candidate(self) -> Candidate:
        return Candidate(
            spec=self.spec,
            coefficients=Coefficients(self.alpha, self.beta, self.gamma),
            shares=self.shares,
            nominal=self.nominal,
            complexity=Complexity(self.macs, self.params, self.activations),
            cost_ratio=self.macs_ratio,
        )


class _RecordDocument(Section, allow_inf_nan=True):  # a training may be too fast to time
    candidate: _CandidateDocument
    seeds: Annotated[tuple[Annotated[SeedRecord, FROM_OBJECT], ...], FROM_LIST]
    failure: Annotated[Failure, FROM_OBJECT] | None
    compile_seconds: float
    images_per_second: float
    device: str
    versions: dict[str, str] = Field(default_factory=dict)  # records of 2026-11-24 and before have none

    def record(self) -> TrialRecord:
        return TrialRecord(
            candidate=self.candidate.candidate(),
            seeds=self.seeds,
            failure=self.failure,
            compile_seconds=self.compile_seconds,
            images_per_second=self.images_per_second,
            device=self.device,
            versions=tuple(self.versions.items()),
        )


def candidate_from_json(document: Mapping[str, Any]) -> Candidate:
    """The candidate of `candidate_to_json`'s object. Raises `InputError` naming the key for any other."""
    return read(_CandidateDocument, document, _CandidateDocument.candidate, "candidate")


def record_from_json(document: Mapping[str, Any]) -> TrialRecord:
    """The record of `record_to_json`'s object. Raises `InputError` naming the key for any other."""
    return read(_RecordDocument, document, _RecordDocument.record, "trial record")
