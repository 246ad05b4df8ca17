"""A worker process that evaluates trials of the planted study: each takes its time in steps, and logs every one.

`tests.chaos` and the benchmarks start it with `runtime.workers.Workers`, as a search starts its workers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import select
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scalesearch.results.records import TrialRecord
from scalesearch.runtime import interrupts, workers
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import Plan, make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.patience import waiting
from scalesearch.search.queue.storage import open_storage
from scalesearch.search.queue.work import work
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, planted_evaluate, planted_study

MODULE = "tests.chaos_worker"
STEPS = 20
"""Into how many steps an evaluation is divided. Between two of them it heeds interrupts."""


def chaos_study(trials: int) -> tuple[Study, Plan]:
    """The planted study with one seed and so many planned trials: up to 220."""
    degree = 6 if trials <= 28 else 24
    study = planted_study(seeds=1, tolerance=0.05, design={"degree": degree})
    plan = make_plan(study)
    return study, dataclasses.replace(plan, trials=plan.distinct[:trials])


def name_of(candidate: Candidate) -> str:
    """A short name of a network, for the log."""
    return hashlib.sha256(repr(candidate.spec).encode()).hexdigest()[:12]


def train(
    storage: str,
    trials: int,
    log: str,
    seconds: float,
    spread: float,
    patience: float,
    poll_seconds: float,
    beat_seconds: float,
    grace_seconds: float,
    go: str | None = None,
) -> None:
    """Evaluates trials until none is left.

    Args:
        storage: SQLAlchemy URL.
        trials: how many are planned.
        log: a file to which a line is added when an evaluation begins and ends, and after each step.
        seconds: how long an evaluation takes, in the mean.
        spread: by which fraction of it evaluations are shorter or longer, each always the same.
        patience: how long to wait for a storage that is away.
        poll_seconds: see `work`.
        beat_seconds: see `work`.
        grace_seconds: see `work`.
        go: a file; the first trial is claimed when it exists.
    """
    planted = planted_evaluate(PlantedSurface())
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Any) -> TrialRecord:
        name = name_of(candidate)
        share = (int(name[:4], 16) / 0xFFFF - 0.5) * 2.0
        pause = seconds * (1.0 + spread * share) / STEPS
        write(name, "begin")
        for _ in range(STEPS):
            time.sleep(pause)
            write(name, "step")
            interrupts.check()
            watch(SimpleNamespace(share=1 / STEPS))
        write(name, "end")
        return planted(candidate, seeds)

    def write(name: str, what: str) -> None:
        os.write(handle, f"{name} {what} {os.getpid()} {time.time():.3f}\n".encode())

    study, plan = chaos_study(trials)
    with waiting(patience):
        optuna_study = studies.join_study(open_storage(storage, create=False), study.name)
        if go is not None:
            workers.report({"ready": True})
            while not Path(go).exists():
                time.sleep(0.02)
        work(
            optuna_study,
            study,
            plan,
            evaluate,
            poll_seconds=poll_seconds,
            beat_seconds=beat_seconds,
            grace_seconds=grace_seconds,
            on_trial=lambda number, record: workers.report({"trial": number}),
        )


def _sleep(seconds: float) -> None:
    select.select([], [], [], max(seconds, 0.0))


if __name__ == "__main__":
    if "LD_PRELOAD" in os.environ:
        # libfaketime 0.9.10 moves the moment until which `time.sleep` asks the system to sleep, even that of a
        # monotonic clock that it leaves alone: "Invalid argument". No real clock does that.
        time.sleep = _sleep
    code = workers.carry_out(train)
    sys.stdout.flush()
    os._exit(code)
