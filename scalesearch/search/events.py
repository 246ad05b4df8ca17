"""What a search reports while it runs: frozen values. The receiver decides what to draw."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from scalesearch.data.splits import Splits
from scalesearch.results.records import TrialRecord
from scalesearch.search.plan.design import Plan
from scalesearch.search.plan.parts import Part
from scalesearch.study.sections import Study


@dataclass(frozen=True, slots=True)
class Planned:
    """The searches of a study (levels, rungs), each with its plan, before anything trains; and its data."""

    parts: tuple[tuple[Part, Plan], ...]
    splits: Splits


@dataclass(frozen=True, slots=True)
class Preparing:
    """Images are decoded and resized: those of `resolution` now, `done` of `total` at all resolutions together."""

    resolution: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class SearchStarted:
    """Workers start to train one search.

    Args:
        study: the study of this search.
        label: what distinguishes it from the other searches of the run, such as "φ = 2"; often empty.
        metric: what to call the metric: the study's, or the same on the test split.
        trials: how many trials there will be, as far as is known.
        records: the trials that ended before.
        predicted_seconds: predicted duration of the trials that are left on the reference machine; None if unknown.
        later_seconds: predicted duration of the searches that follow.
    """

    study: Study
    label: str
    metric: str
    trials: int
    records: tuple[TrialRecord, ...]
    predicted_seconds: float | None
    later_seconds: float


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """A worker of this machine ended an epoch: `done` is the fraction of its current trial that is trained."""

    worker: int
    done: float


@dataclass(frozen=True, slots=True)
class TrialsEnded:
    """These trials ended since the last event, on this machine or another; `trials` is the new total."""

    records: tuple[TrialRecord, ...]
    trials: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """No trial is left to start; `running` trials still run elsewhere, or their workers died."""

    running: int


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """One search ended; `missing` of its trials have no result, `failed` failed for a recorded reason."""

    missing: int
    failed: int


Event = Planned | Preparing | SearchStarted | EpochEnded | TrialsEnded | Waiting | SearchEnded | str
"""What is reported; a string is a sentence for the user."""

OnEvent = Callable[[Event], object]

REPORT_SECONDS = 0.2


class PreparationReports:
    """Passes on how far a preparation of images is, a few times a second, and its end."""

    def __init__(self, on_event: Callable[[Preparing], object]) -> None:
        self._on_event, self._reported = on_event, -math.inf

    def __call__(self, resolution: int, done: int, total: int) -> None:
        """Called after each part."""
        now = time.monotonic()
        if done == total or now - self._reported >= REPORT_SECONDS:
            self._reported = now
            self._on_event(Preparing(resolution, done, total))
