"""What goes on in a run: which workers run its trials, how fast they are, and what went wrong."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scalesearch.scaling.feasible import Candidate
from scalesearch.search.queue.lease import BEAT_SECONDS, GRACE_SECONDS

GIVEN_UP, TAKEN_BACK = "given up", "taken back"
"""What became of a trial whose workers died: nobody tries it again, or it is tried again."""


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial that a worker runs.

    Attributes:
        study: the name of the stored study.
        number: the trial's number there.
        candidate: what it trains; None before that is decided.
        seeds: for which seeds.
        started: when it was claimed, by the clock of the worker's machine, in that machine's local time.
        worker: who runs it (`runtime.presence.present`, with `device`); empty if nobody has said so yet.
        done: the fraction that was trained at the last sign of life; None before the first.
        has_ended: whether the worker is certainly gone: it ran on this machine.
        silent_seconds: for how long this process has seen no sign of life, by its own clock.
        was_seen: whether it has seen one at all, so that `silent_seconds` began with it.
    """

    study: str
    number: int
    candidate: Candidate | None
    seeds: tuple[int, ...]
    started: datetime | None
    worker: Mapping[str, Any]
    done: float | None
    has_ended: bool
    silent_seconds: float = 0.0
    was_seen: bool = False

    @property
    def is_at_work(self) -> bool:
        """Whether the worker may live, for all that is known."""
        return not self.has_ended and self.silent_seconds < GRACE_SECONDS

    @property
    def is_unseen(self) -> bool:
        """Whether nothing is known of the worker's life: it is on another machine, and has given no sign since."""
        return bool(self.worker) and self.worker.get("host") != platform.node() and not self.was_seen

    @property
    def is_silent(self) -> bool:
        """Whether signs of life are overdue."""
        return self.silent_seconds > 2 * BEAT_SECONDS


@dataclass(frozen=True, slots=True)
class Setback:
    """A trial that failed, or whose worker died. `kind` is that of the failure, `GIVEN_UP` or `TAKEN_BACK`."""

    study: str
    number: int
    candidate: Candidate | None
    kind: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Activity:
    """What goes on in a run.

    Attributes:
        running: the trials that workers run.
        setbacks: the trials that failed, or whose workers died and that are not done since.
        finished: how many trials have a result.
        mean_seconds: how long one of these took; None before the first.
        images_per_second: mean speed of their trainings; None before the first.
        trials_left: how many trials are left, with the part of the running ones that is not trained.
        labels: the part of the run that each stored study is; empty for the full schedule at φ = 1.
        not_begun: labels of the parts whose trials are not queued yet.
        is_finished: whether nothing is left.
        seconds_left: predicted; None if nobody is at work or no trial has finished.
    """

    running: tuple[RunningTrial, ...]
    setbacks: tuple[Setback, ...]
    finished: int
    mean_seconds: float | None
    images_per_second: float | None
    trials_left: float
    seconds_left: float | None
    labels: dict[str, str]
    not_begun: tuple[str, ...]
    is_finished: bool

    @property
    def at_work(self) -> int:
        """How many workers are at work, as far as is known."""
        return sum(running.is_at_work for running in self.running)

    @property
    def trials_per_hour(self) -> float | None:
        """What the workers that are at work get done in an hour; None if that is not known."""
        return 3600 * self.at_work / self.mean_seconds if self.mean_seconds and self.at_work else None

    def to_json(self) -> dict[str, Any]:
        """What `status --json` prints beside `Outcome.status`."""
        return {
            "workers": [_running_to_json(running) for running in self.running],
            "throughput": {
                "seconds_per_trial": self.mean_seconds,
                "trials_per_hour": self.trials_per_hour,
                "images_per_second": self.images_per_second,
            },
            "seconds_left": self.seconds_left,
            "failures": [_setback_to_json(setback) for setback in self.setbacks],
            "finished": self.is_finished,
        }


def _running_to_json(running: RunningTrial) -> dict[str, Any]:
    """A running trial as a JSON object, without what only a watcher knows."""
    worker = running.worker
    return {
        **{key: worker.get(key) for key in ("host", "process", "device")},
        "has_ended": running.has_ended,
        "study": running.study,
        "trial": running.number,
        "spec": running.candidate and running.candidate.spec.to_json(),
        "seeds": list(running.seeds),
        "since": running.started and running.started.isoformat(timespec="seconds"),
        "trained": running.done,
    }


def _setback_to_json(setback: Setback) -> dict[str, Any]:
    """A setback as a JSON object."""
    document = dataclasses.asdict(dataclasses.replace(setback, candidate=None))
    del document["candidate"]
    document["trial"] = document.pop("number")
    return {**document, "spec": setback.candidate and setback.candidate.spec.to_json()}
