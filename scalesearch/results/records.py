"""Trial records: what the training of one candidate left behind, and its JSON form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.cost.count import Complexity
from scalesearch.scaling.feasible import Candidate

# What the tables call a trial that finished, a seed of a trial that did not, and a trial that was pruned or failed.
DONE, PARTIAL, PRUNED, FAILED = "done", "partial", "pruned", "failed"

FailureKind = Literal["diverged", "out-of-memory", "error", "interrupted", "stale", "pruned"]


@dataclass(frozen=True, slots=True)
class SeedRecord:
    """One training run. Curves hold one value an epoch; the metrics are those of the last epoch."""

    seed: int
    train_loss: tuple[float, ...]
    val_loss_curve: tuple[float, ...]
    val_accuracy_curve: tuple[float, ...]
    train_seconds: float

    @property
    def val_loss(self) -> float:
        """Mean cross-entropy on the validation split after the last epoch, in nats, without label smoothing."""
        return self.val_loss_curve[-1]

    @property
    def val_accuracy(self) -> float:
        """Fraction of the validation split classified right after the last epoch."""
        return self.val_accuracy_curve[-1]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a trial has no result."""

    kind: FailureKind
    reason: str


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One candidate trained for its seeds, or the reason why it was not; of a pruned one, `seeds` holds what it was.

    `versions` are those of the packages that trained it, as (name, version); `phi` is the level of the study that it is
    from, which whoever reads the study knows: it is not stored.
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

    Where its last trial failed, that one's record; else of a seed that was trained twice the later result stays.
    """
    merged: dict[int, TrialRecord] = {}
    for number, record in zip(candidate_numbers(records), records, strict=True):
        earlier = merged.get(number)
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
    """The object of the contract: realised α, β, γ and shares, nominal ones beside them, exact cost, spec."""
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


def candidate_from_json(document: Mapping[str, Any]) -> Candidate:
    """The candidate of `candidate_to_json`'s object. Raises `KeyError` or `ValueError` for any other."""
    return Candidate(
        spec=ArchitectureSpec.from_json(document["spec"]),
        coefficients=Coefficients(document["alpha"], document["beta"], document["gamma"]),
        nominal=Coefficients(**document["nominal"]),
        complexity=Complexity(document["macs"], document["params"], document["activations"]),
        cost_ratio=document["macs_ratio"],
    )


def record_to_json(record: TrialRecord) -> dict[str, Any]:
    """The record as a JSON object; `record_from_json` reads it back exactly."""
    return {
        "candidate": candidate_to_json(record.candidate),
        "seeds": [dataclasses.asdict(seed) for seed in record.seeds],
        "failure": dataclasses.asdict(record.failure) if record.failure else None,
        "compile_seconds": record.compile_seconds,
        "images_per_second": record.images_per_second,
        "device": record.device,
        "versions": dict(record.versions),
    }


def record_from_json(document: Mapping[str, Any]) -> TrialRecord:
    """The record of `record_to_json`'s object. Raises `KeyError`, `TypeError` or `ValueError` for any other."""
    seeds = (SeedRecord(**_with_tuples(seed)) for seed in document["seeds"])
    failure = document["failure"]
    return TrialRecord(
        candidate=candidate_from_json(document["candidate"]),
        seeds=tuple(seeds),
        failure=Failure(**failure) if failure else None,
        compile_seconds=document["compile_seconds"],
        images_per_second=document["images_per_second"],
        device=document["device"],
        versions=tuple(document.get("versions", {}).items()),  # records of 2026-11-24 and before have none
    )


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
