"""A worker: claims the trials of a study one after the other and evaluates their candidates."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Protocol

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import TrialState

from scalesearch.results.records import PRUNED, TrialRecord, record_to_json
from scalesearch.runtime import interrupts
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import Plan
from scalesearch.search.queue.optuna_study import (
    check_plan,
    count_states,
    enqueue_again,
    enqueue_missing,
    evaluates_of,
    records,
    sampler_for,
)
from scalesearch.search.queue.pruning import Watch, goes_on, pruner_of, watch_of
from scalesearch.search.queue.storage import GRACE_SECONDS, storage_errors
from scalesearch.search.queue.stored_study import QueueEmpty, StoredStudy
from scalesearch.search.queue.tasks import Expect, QueuedTasks, SampledTasks
from scalesearch.search.queue.trials import Trials, set_record
from scalesearch.study.sections import Study

# A worker that waits for others looks at the study this often.
POLL_SECONDS = 0.5


class Evaluate(Protocol):
    """Trains a candidate for the given seeds; in a study that prunes, until `watch` says that it is pruned.

    Returns the record of the training, or of a failure that would recur (divergence, out of memory). Raises what ends
    the work: an interrupt, a defect.
    """

    def __call__(self, candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on, /) -> TrialRecord:
        """The record."""
        ...


class TrialFailed(Exception):
    """A trial whose failure is recorded; the study goes on."""


@storage_errors()
def work(
    optuna_study: StoredStudy,
    study: Study,
    plan: Plan,
    evaluate: Evaluate,
    *,
    deadline: float = math.inf,
    expect: Expect | None = None,
    on_trial: Callable[[int, TrialRecord], None] = lambda number, record: None,
    on_wait: Callable[[int], None] = lambda running: None,
    wait: bool = True,
    poll_seconds: float = POLL_SECONDS,
    grace_seconds: float = GRACE_SECONDS,
) -> None:
    """Evaluate trials until none is left, here or elsewhere.

    While other workers still run trials, this one waits: the trial of a worker that died comes back to the queue. The
    trial that is interrupted goes back to the queue at once. A race fills its queue again when it is empty, until its
    choice is resolved or there is nothing left to learn.

    Args:
        optuna_study: the stored study.
        study: its settings.
        plan: what it trains.
        evaluate: trains one candidate.
        deadline: a moment of `time.monotonic`. No trial begins after it, nor one that would end after it if it took the
            mean time of those before.
        expect: gets the candidate and seeds that this worker will probably evaluate next, before each evaluation.
        on_trial: gets the number and the record of each trial that this worker has ended.
        on_wait: gets the number of trials that other workers run, each time this one waits for them.
        wait: whether to wait for other workers at all.
        poll_seconds: how long to wait before the next look at the study.
        grace_seconds: after twice as long, running trials that never had a heartbeat count as those of dead workers.

    Raises:
        StudyMismatch: the study holds other networks than `plan`, or shares that an earlier version measured.
        StorageError: the storage failed.
    """
    check_plan(optuna_study, study, plan)
    if study.prune:
        optuna_study.pruner = pruner_of(study, plan)
    tasks: QueuedTasks | SampledTasks = QueuedTasks(optuna_study, expect, study.runtime.workers)
    if study.design.kind == "tpe" and not plan.trials and evaluates_of(optuna_study) == "validation":
        tasks = SampledTasks(optuna_study, study, plan)
    clock = _Clock(deadline)
    worker = _Worker(optuna_study, study, tasks, evaluate, clock)
    lost_trials = _LostTrials(optuna_study, 2 * grace_seconds)

    while True:
        trials = optuna_study.trials_to_claim()
        interrupts.check()
        if clock.is_up:
            return
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        if tasks.left(trials) > 0:
            ended = worker.run_trial()
            if ended is not None:
                on_trial(*ended)
        elif running and not wait:
            return
        elif running:
            on_wait(running)
            time.sleep(poll_seconds)
            lost_trials.recover(trials, poll_seconds)
        elif not (study.race and _queue_next_round(optuna_study, study, plan)):
            return


class _Worker:
    """Claims and evaluates one trial at a time."""

    def __init__(
        self,
        optuna_study: StoredStudy,
        study: Study,
        tasks: QueuedTasks | SampledTasks,
        evaluate: Evaluate,
        clock: _Clock,
    ) -> None:
        self._optuna_study, self._study, self._tasks = optuna_study, study, tasks
        self._evaluate, self._clock = evaluate, clock
        self._ended: tuple[int, TrialRecord] | None = None  # the trial, once its record is stored
        self._lost = False  # another worker gave the trial up for dead

    def run_trial(self) -> tuple[int, TrialRecord] | None:
        """Claim and evaluate a trial: its number and record; None if it was superfluous or another worker's."""
        self._ended, self._lost = None, False
        try:
            self._optuna_study.optimize(self._objective, n_trials=1, catch=(TrialFailed,))
        except QueueEmpty:
            return None
        except (UpdateFinishedTrialError, ValueError, AssertionError):
            # What Optuna raises for a trial that has ended already: this machine slept, and others gave the trial up.
            # It may cover an interrupt.
            interrupts.check()
            if not self._lost and self._ended is None:
                raise
            return None
        return self._ended

    def _objective(self, trial: optuna.Trial) -> float:
        try:
            return self._attempt(trial)
        except UpdateFinishedTrialError:
            self._lost = True
            raise
        except (KeyboardInterrupt, BrokenPipeError):  # the latter if the reader of the progress is gone
            enqueue_again(self._optuna_study, trial)
            raise

    def _attempt(self, trial: optuna.Trial) -> float:
        self._optuna_study.sampler = sampler_for(self._study, trial.number)
        candidate, seeds = self._tasks.task(trial)
        watch = watch_of(self._optuna_study, trial, self._study, seeds) if self._study.prune else None
        with self._clock:
            record = self._evaluate(candidate, seeds) if watch is None else self._evaluate(candidate, seeds, watch)
        set_record(trial, record_to_json(record))
        self._ended = (trial.number, record)
        if record.status == PRUNED:
            raise optuna.TrialPruned
        if record.failure is not None:
            raise TrialFailed(record.failure.reason)
        return record.mean(self._study.metric)


class _Clock:
    """How long trials take, and whether another one fits before the deadline. A context manager for each trial."""

    def __init__(self, deadline: float) -> None:
        self._deadline, self._started = deadline, 0.0
        self._seconds: list[float] = []

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds.append(time.monotonic() - self._started)

    @property
    def is_up(self) -> bool:
        """Whether the next trial should not begin."""
        mean = sum(self._seconds) / max(len(self._seconds), 1)
        return time.monotonic() + mean > self._deadline


class _LostTrials:
    """Brings the trials of dead workers back to the queue.

    Optuna does so for trials whose last heartbeat is old, but never for one without any heartbeat. A worker that died
    between its claim and its first heartbeat would hold its trial for ever. So after `patience` seconds of waiting,
    each running trial gets one heartbeat. That changes nothing for a worker that is alive.
    """

    def __init__(self, optuna_study: StoredStudy, patience: float) -> None:
        self._optuna_study, self._patience = optuna_study, patience
        self._waited = 0.0
        self._recorded = set[int]()  # numbers of the trials that got a heartbeat here

    def recover(self, trials: Trials, seconds: float) -> None:
        """Queue again what dead workers ran, after `seconds` more of waiting. `trials` are all trials of the study."""
        self._waited += seconds
        if self._waited > self._patience:
            running = {trial.number for trial in trials if trial.state == TrialState.RUNNING}
            for number in running - self._recorded:
                self._optuna_study.record_heartbeat(number)
            self._recorded |= running
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._optuna_study)


def _queue_next_round(optuna_study: StoredStudy, study: Study, plan: Plan) -> bool:
    """Queue the next round of a race; whether there is one.

    Every worker that sees the queue empty does this. What they queue follows from the records alone, and of two trials
    with the same task one is pruned.
    """
    from scalesearch.search.plan.racing import next_round  # with pandas and scipy, which no other search needs

    before = records(optuna_study)
    wanted = next_round(study, plan, before)
    states = count_states(optuna_study)
    ended = states["complete"] + states["failed"]
    if states["waiting"] + states["running"] == 0 and ended == len(before):
        return enqueue_missing(optuna_study, wanted, planned=False) > 0
    return True  # another worker was faster
