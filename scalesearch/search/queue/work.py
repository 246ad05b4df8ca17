"""A worker: claims the trials of a study one after the other and evaluates their candidates."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from scalesearch.results.records import TrialRecord, record_to_json
from scalesearch.runtime import interrupts
from scalesearch.runtime.presence import present
from scalesearch.runtime.text import first_line
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import Plan
from scalesearch.search.queue.filling import fill_queue
from scalesearch.search.queue.lease import BEAT_SECONDS, GRACE_SECONDS, Lease, LostTrials, end
from scalesearch.search.queue.optuna_study import (
    count_states,
    evaluates_of,
    records,
    sampler_for,
)
from scalesearch.search.queue.planned import check_plan
from scalesearch.search.queue.pruning import Watch, first_rung, goes_on, watch_of
from scalesearch.search.queue.rounds import enqueue_rounds, store_round
from scalesearch.search.queue.storage import storage_errors
from scalesearch.search.queue.stored_study import QueueEmpty, StoredStudy
from scalesearch.search.queue.tasks import Expect, QueuedTasks, SampledTasks
from scalesearch.search.queue.trials import set_record
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    from scalesearch.training.loop import EpochReport

# A worker that waits for others looks at the study this often.
POLL_SECONDS = 0.5
# Where a look takes long, as of many workers, it rests so many times as long as the look took, but no longer than that.
_REST, _LONGEST_POLL_SECONDS = 20.0, 5.0


class Evaluate(Protocol):
    """Trains a candidate for the given seeds, until `watch`, which gets every epoch, says that it is pruned.

    Returns the record of the training, or of a failure that would recur (divergence, out of memory). Raises what ends
    the work: an interrupt, a defect.
    """

    def __call__(self, candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on, /) -> TrialRecord:
        """The record."""
        ...


class TrialTaken(Exception):
    """Another worker has ended the trial that this one runs: it had given this one up for dead."""


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
    beat_seconds: float = BEAT_SECONDS,
    grace_seconds: float = GRACE_SECONDS,
    device: str = "",
) -> None:
    """Evaluate trials until none is left, here or elsewhere.

    While other workers still run trials, this one waits: the trial of a worker that died comes back to the queue. The
    trial that is interrupted goes back to the queue at once. Planned trials that are nowhere are queued. A race fills
    its queue again when it is empty, until its choice is resolved or there is nothing left to learn.

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
        beat_seconds: how often this worker gives a sign of life.
        grace_seconds: a worker of another machine that gives no sign of life for so long counts as dead.
        device: what this worker trains on, for those who look at the study.

    Raises:
        StudyMismatch: the study holds other networks than `plan`.
        StorageError: the storage failed.
    """
    check_plan(optuna_study, study, plan)
    tasks: QueuedTasks | SampledTasks = QueuedTasks(optuna_study, expect, study.runtime.workers)
    if study.design.kind == "tpe" and not plan.trials and evaluates_of(optuna_study) == "validation":
        tasks = SampledTasks(optuna_study, study, plan)
    clock = _Clock(deadline)
    lost_trials = LostTrials(optuna_study, study.metric, grace_seconds)
    has_reconciled = False
    with present() as presence:
        holder = {**presence, "device": device} if device else presence
        worker = _Worker(optuna_study, study, plan, tasks, evaluate, clock, holder, beat_seconds)
        while True:
            began = time.monotonic()
            trials = optuna_study.trials_to_claim()
            interrupts.check()
            if clock.is_up:
                return
            running = sum(trial.state == TrialState.RUNNING for trial in trials)
            if running and lost_trials.take_back(trials):
                continue
            if tasks.left(trials) > 0:
                ended = worker.run_trial()
                if ended is not None:
                    on_trial(*ended)
            elif running and not wait:
                return
            elif running:
                on_wait(running)
                took = time.monotonic() - began
                time.sleep(max(poll_seconds, min(took * _REST, _LONGEST_POLL_SECONDS)))
            elif not has_reconciled:
                has_reconciled = True
                fill_queue(optuna_study, study, plan, again=False)
            elif not (study.race and _queue_next_round(optuna_study, study, plan)):
                return


class _Worker:
    """Claims and evaluates one trial at a time."""

    def __init__(
        self,
        optuna_study: StoredStudy,
        study: Study,
        plan: Plan,
        tasks: QueuedTasks | SampledTasks,
        evaluate: Evaluate,
        clock: _Clock,
        presence: Mapping[str, Any],
        beat_seconds: float,
    ) -> None:
        self._optuna_study, self._study, self._tasks = optuna_study, study, tasks
        self._evaluate, self._clock, self._presence, self._beat_seconds = evaluate, clock, presence, beat_seconds
        self._first_rung = first_rung(study, plan) if study.prune else 0

    def run_trial(self) -> tuple[int, TrialRecord] | None:
        """Claim and evaluate a trial: its number and record; None if it was superfluous or another worker's."""
        try:
            trial = self._optuna_study.ask()
        except QueueEmpty:
            return None
        storage, trial_id = self._optuna_study.storage, self._optuna_study.id_of(trial.number)
        with contextlib.suppress(UpdateFinishedTrialError), self._lease(trial_id) as lease:
            try:
                record = self._record(trial, lease)
                set_record(trial, record_to_json(record))
            except optuna.TrialPruned:  # superfluous
                storage.set_trial_state_values(trial_id, TrialState.PRUNED)
                return None
            except TrialTaken:
                return None
            except UpdateFinishedTrialError:
                raise
            except (KeyboardInterrupt, BrokenPipeError):  # the latter if the reader of the progress is gone
                lease.give_back()
                raise
            except Exception as error:
                lease.give_back(f"{type(error).__name__}: {first_line(error)}")
                raise
            with contextlib.suppress(UpdateFinishedTrialError):  # the same record, by a worker that took this for dead
                end(storage, trial_id, record, self._study.metric)
            return trial.number, record
        return None

    def _lease(self, trial_id: int) -> Lease:
        return Lease(self._optuna_study.storage, trial_id, self._presence, self._beat_seconds)

    def _record(self, trial: optuna.Trial, lease: Lease) -> TrialRecord:
        self._optuna_study.sampler = sampler_for(self._study, trial.number)
        candidate, seeds = self._tasks.task(trial)
        prune: Watch = goes_on
        if self._study.prune:
            prune = watch_of(self._optuna_study, trial, self._study, seeds, self._first_rung)

        def watch(report: EpochReport) -> bool:
            lease.done += report.share
            if lease.is_over:
                raise TrialTaken
            return prune(report)

        with self._clock:
            return self._evaluate(candidate, seeds, watch)


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


def _queue_next_round(optuna_study: StoredStudy, study: Study, plan: Plan) -> bool:
    """Queue the next round of a race; whether there is one.

    Every worker that sees the queue empty does this. What they queue follows from the records alone, and of two trials
    with the same task one is pruned.
    """
    from scalesearch.search.plan.racing import next_round  # with pandas and scipy, which no other search needs

    if enqueue_rounds(optuna_study, again=False):  # one was queued in part
        return True
    before = records(optuna_study)
    wanted = next_round(study, plan, before)
    states = count_states(optuna_study)
    ended = states["complete"] + states["failed"]
    if states["waiting"] + states["running"] == 0 and ended == len(before):
        store_round(optuna_study, len(before), wanted)
        return enqueue_rounds(optuna_study, again=False) > 0
    return True  # another worker was faster
