"""A worker: claims trials of a study one after the other and evaluates their candidates."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from scalesearch.results.records import PRUNED, TrialRecord, record_to_json
from scalesearch.runtime import interrupts
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.feasible import Candidate, FeasibleSet, feasible_set
from scalesearch.search.plan.design import Plan, first_seeds, planned_size
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.looks import Tally
from scalesearch.search.queue.pruning import Watch, goes_on, pruner_of, watch_of
from scalesearch.search.queue.storage import GRACE_SECONDS, start_clock
from scalesearch.study.sections import Study


class Evaluate(Protocol):
    """Trains a candidate for the given seeds, in a study that prunes until `watch` says that it is pruned.

    Returns the record of what was trained, or of a failure that would come again (divergence, out of memory); raises
    for what ends the work (an interrupt, a defect).
    """

    def __call__(self, candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on, /) -> TrialRecord:
        """The record."""
        ...


POLL_SECONDS = 0.5


class TrialFailed(Exception):
    """A trial whose failure is recorded; the study goes on."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A trial of this worker that ended, with its record."""

    number: int
    record: TrialRecord


def work(
    study: optuna.Study,
    config: Study,
    plan: Plan,
    evaluate: Evaluate,
    *,
    on_trial=lambda number, record: None,
    on_wait=lambda running: None,
    deadline: float = math.inf,
    expect: Callable[[Candidate, tuple[int, ...]], None] | None = None,
    on_look: Callable[[Sequence[FrozenTrial], Mapping[str, int]], None] = lambda trials, states: None,
) -> None:
    """Evaluate trials until none is left, here or elsewhere.

    While other workers still run trials, waits for them (`on_wait` gets how many), since a trial whose
    worker died comes back to the queue. An interrupted trial goes back at once. In a race the queue is filled again
    when it is empty, until the choice is resolved or nothing is left to find out. After `deadline` (of
    `time.monotonic`) no trial begins, nor one that by the mean of those before would end after it. Before a trial is
    evaluated `expect` gets the one that this worker is likely to claim next, if there is one. `on_look` gets all trials
    of the study and their `studies.states_of` before each trial, while it waits, and in the end.
    """
    planned = plan.distinct
    studies.check_plan(study, planned)
    adaptive = None if planned else _Adaptive(study, config, plan)
    size = planned_size(config, plan)
    clock = _Clock(deadline)
    if config.prune:
        study.pruner = pruner_of(config, plan)
    taken_away: list[int] = []
    finished: list[Finished] = []
    seen: list[FrozenTrial] = []
    twins, tally = studies.Twins(), Tally()
    waited, started = 0.0, set[int]()

    def objective(trial: optuna.Trial) -> float:
        try:
            return attempt(trial)
        except UpdateFinishedTrialError:  # given up for dead while it was evaluated: this machine slept
            taken_away.append(trial.number)
            raise
        except (KeyboardInterrupt, BrokenPipeError):  # the latter where the reader of the progress went away
            studies.enqueue_again(study, trial)
            raise

    def attempt(trial: optuna.Trial) -> float:
        study.sampler = studies.sampler_for(config, trial.number)
        if adaptive is not None:
            seeds = first_seeds(config)
            candidate = adaptive.candidate(trial, seeds)
        else:
            candidate, seeds = _claimed(study, trial, seen, twins)
            if expect is not None:
                following = studies.next_waiting(seen, trial, config.runtime.workers)
                if following is not None:
                    expect(*following)
        more = (watch_of(study, trial, config, seeds),) if config.prune else ()
        with clock:
            record = evaluate(candidate, seeds, *more)
        studies.set_record(trial, record_to_json(record))
        finished.append(Finished(trial.number, record))
        if record.status == PRUNED:
            raise optuna.TrialPruned
        if record.failure is not None:
            raise TrialFailed(record.failure.reason)
        return record.mean(config.metric)

    while True:
        seen = study.get_trials(deepcopy=False)
        states = tally.states_of(seen)
        on_look(seen, states)
        interrupts.check()
        begun = sum(states.values()) - states["waiting"]
        left = states["waiting"] if adaptive is None else size - begun
        if clock.is_up:
            return
        if left > 0:
            try:
                study.optimize(objective, n_trials=1, catch=(TrialFailed,))
            except (UpdateFinishedTrialError, ValueError):  # Optuna's, for a trial that has ended already
                interrupts.check()  # which the trial's end has covered
                if not taken_away:
                    raise
                taken_away.clear()
                finished.clear()
            while finished:
                f = finished.pop()
                on_trial(f.number, f.record)
        elif states["running"] == 0:
            if not (config.race and _go_on(study, config, plan)):
                return
        else:
            on_wait(states["running"])
            time.sleep(POLL_SECONDS)
            waited += POLL_SECONDS
            if waited > 2 * GRACE_SECONDS:
                start_clock(study, started)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                optuna.storages.fail_stale_trials(study)


class _Clock:
    """How long trials take, and whether another one fits before the deadline. A context manager around each."""

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


def _go_on(study: optuna.Study, config: Study, plan: Plan) -> bool:
    """Queue the next round of a race; whether there is one.

    Every worker that finds the queue empty does; what they decide follows from the records alone, and of trials
    queued twice one is dropped.
    """
    from scalesearch.search.plan.racing import next_round  # with pandas and scipy, which no other search needs

    records = studies.records(study)
    wanted = next_round(config, plan, records)
    states = studies.count_states(study)
    if states["waiting"] + states["running"] == 0 and states["complete"] + states["failed"] == len(records):
        return studies.enqueue_missing(study, wanted, planned=False) > 0
    return True  # another worker was faster


def _claimed(
    study: optuna.Study, trial: optuna.Trial, seen: list[FrozenTrial], twins: studies.Twins
) -> tuple[Candidate, tuple[int, ...]]:
    """The candidate and the seeds of a queued trial. Raises `TrialPruned` for one too many.

    That is a trial that nobody queued, since another worker took the last one between the look and the
    claim; or one of two that stand for the same network and seeds, as when two runs fill the queue at once.
    `seen` is the look: where it shows the trial, it shows all that were queued before it. One that it shows waiting may
    have ended since, and another taken its place: so none is one too many by that look alone.
    """

    def has_twin(own: FrozenTrial, seen: list[FrozenTrial]) -> bool:
        return any(
            studies.holds(other) and (other.number < own.number or studies.has_record(other))
            for other in twins.of(seen, own)
        )

    if trial.number >= len(seen):
        seen = study.get_trials(deepcopy=False)
    own = seen[trial.number]
    candidate = studies.candidate_of(own)
    if candidate is None or (has_twin(own, seen) and has_twin(own, study.get_trials(deepcopy=False))):
        raise optuna.TrialPruned
    if not own.params:  # queued by `enqueue_trial`, which leaves them to whoever claims it
        studies.suggested(trial)
    return candidate, studies.seeds_of(own)


class _Adaptive:
    """Snaps a sampler's suggestion to the nearest feasible candidate that no trial has taken."""

    def __init__(self, study: optuna.Study, config: Study, plan: Plan) -> None:
        self._study, self._budget, self._size = study, config.budget, planned_size(config, plan)
        baseline = plan.baseline
        found = feasible_set(baseline.spec, baseline.rounding, config.budget, config.tolerance)
        self._found: FeasibleSet = found.without_twins()

    def candidate(self, trial: optuna.Trial, seeds: tuple[int, ...]) -> Candidate:
        """The free candidate nearest to what the sampler suggests, marked as taken.

        Raises `TrialPruned` for a trial too many.
        """
        target = studies.suggested(trial)
        order = self._found.log_distances(target, self._budget).argsort(kind="stable").tolist()
        while True:
            others = [t for t in self._study.get_trials(deepcopy=False) if t.number != trial.number]
            if sum(_counts(other) for other in others if other.number < trial.number) >= self._size:
                raise optuna.TrialPruned
            candidate = self._nearest_free(order, _specs(others))
            studies.set_candidate(trial, candidate, seeds)
            # Another worker may have taken it between the look and the mark: then look again.
            others = [t for t in self._study.get_trials(deepcopy=False) if t.number != trial.number]
            if candidate.spec not in _specs(others):
                return candidate

    def _nearest_free(self, order: list[int], taken: set[ArchitectureSpec]) -> Candidate:
        for row in order[: len(taken) + 1]:
            candidate = self._found.candidate(row)
            if candidate.spec not in taken:
                return candidate
        raise optuna.TrialPruned


def _counts(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING or studies.has_record(trial)


def _specs(trials: list[FrozenTrial]) -> set[ArchitectureSpec]:
    candidates = (studies.candidate_of(trial) for trial in trials if _counts(trial))
    return {candidate.spec for candidate in candidates if candidate is not None}
