"""Supervises the workers of one search: starts them, listens to them, and restarts those that crash."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from scalesearch.errors import InputError, ScalesearchError, StorageError, StudyMismatch
from scalesearch.runtime import interrupts
from scalesearch.runtime.cores import usable_cores
from scalesearch.runtime.devices import environments
from scalesearch.runtime.exhaustion import memory_limit
from scalesearch.runtime.modules import folders_of
from scalesearch.runtime.workers import MAX_DEATHS, Workers
from scalesearch.search import worker
from scalesearch.search.events import EpochEnded, OnEvent, Preparing, Waiting
from scalesearch.study.sections import Study

_log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often the storage is read for trials that ended on other machines; a worker of this one reports at once."""

MAX_RESTARTS = 3
"""How often workers that crash are started again."""


class WorkerFailed(ScalesearchError):
    """A worker ended with an error that another attempt would not fix; a note holds its traceback, if it sent one."""


_WORKER_BYTES = 2**28  # of Python, jax and its programs, before any network


def check_memory(workers: int) -> None:
    """Raises `InputError` if so many worker processes cannot start on this machine. One a core is never refused."""
    # The lesser is a limit of each process (`ulimit -v`), which more of them do not exhaust.
    if workers > len(usable_cores()) and memory_limit(workers) < min(_WORKER_BYTES, memory_limit()):
        raise InputError(
            f"`runtime.workers` must be fewer than {workers:,}: each takes {_WORKER_BYTES / 2**30:g} GiB of this "
            "machine's memory before it trains"
        )


Instruction = Mapping[str, Any]
"""The arguments of `worker.train_study`."""


def instructions_for(
    study: Study, url: str, deadline: float, reference: str | None = None, patience: float | None = None
) -> list[Instruction]:
    """One instruction for each worker of this machine; they share its cores. The first trains the `reference`, too."""
    count, cores = study.runtime.workers, usable_cores()
    parts: list[list[int]] = [[]]
    if count > 1:
        parts = [cores[place::count] or [cores[place % len(cores)]] for place in range(count)]
    left = None if math.isinf(deadline) else max(deadline - time.monotonic(), 1.0)
    common: dict[str, Any] = {
        "storage": url,
        "study_names": [study.name],
        "seconds": left,
        "patience": patience,
    }
    if files := study.baseline.own_files():
        common["folders"] = folders_of(files)
    return [{**common, "cores": part, "reference": None if place else reference} for place, part in enumerate(parts)]


def start_workers(instructions: Sequence[Instruction]) -> Workers:
    """The worker processes that carry out `instructions`, one a device; they run within its context."""
    return Workers(worker.MODULE, instructions, environments(len(instructions)))


def watch(
    workers: Workers, on_event: OnEvent, on_trial: Callable[[Mapping[str, Any]], None] = lambda message: None
) -> Iterator[bool]:
    """Passes on what workers report until all have ended; `on_trial` gets the message of each trial that ends.

    Yields whenever it is time to look at the storage: True where a worker of this machine ended a trial.
    """
    restarts, looked = 0, time.monotonic()
    most = (MAX_DEATHS + 1) * workers.alive  # of each one more than give a trial up
    while workers.alive:
        trial_ended = False
        for index, message in workers.messages(timeout=LOOK_SECONDS / 4):
            if "epoch" in message:
                on_event(EpochEnded(index, message["epoch"]))
            elif "trial" in message:
                trial_ended, restarts = True, 0
                on_event(EpochEnded(index, 0.0))
                on_trial(message)
            elif "preparing" in message:
                on_event(Preparing(*message["preparing"]))
            elif "waiting" in message:
                on_event(Waiting(message["waiting"]))
            elif "note" in message:
                warnings.warn(message["note"], stacklevel=2)
            elif "log" in message:
                _log.info("%s", message["log"])
            elif "error" in message:
                raise error_of(message)
        interrupts.check()
        for index, reason in start_again(workers, restarts, most):
            restarts += 1
            on_event(EpochEnded(index, 0.0))
            on_event(f"{reason}; it is started again")
        if trial_ended or time.monotonic() - looked >= LOOK_SECONDS:
            looked = time.monotonic()
            yield trial_ended


def start_again(workers: Workers, restarts: int, most: int = MAX_RESTARTS) -> Iterator[tuple[int, str]]:
    """Starts workers again that crashed: the index of each, and a clause that says how it ended.

    Raises `WorkerFailed` for one more than `most`, of which `restarts` have been.
    """
    for index, exit_code, last_words in workers.ended():
        if exit_code == 0:
            continue
        reason = f"a worker ended early with exit code {exit_code}: {last_words}".rstrip(": ")
        if restarts >= most:
            raise WorkerFailed(f"{reason}; it was started again {most} times")
        restarts += 1
        workers.start(index)
        yield index, reason


def error_of(message: Mapping[str, Any]) -> ScalesearchError:
    """The error that a worker reported."""
    kinds = {kind.exit_code: kind for kind in (InputError, StudyMismatch, StorageError)}
    if message["exit_code"] in kinds:
        return kinds[message["exit_code"]](message["error"])
    error = WorkerFailed(f"{message['error']} (scalesearch --debug … shows where)")
    error.add_note(message["traceback"])
    return error
