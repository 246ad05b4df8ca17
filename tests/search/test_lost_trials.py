"""Trials whose workers die, sleep or are interrupted: each is evaluated in the end, and nobody waits for ever."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from scalesearch.results.records import TrialRecord
from scalesearch.runtime import interrupts
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.storage import MAX_RETRIES, open_storage, sqlite_url
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.tasks import QueuedTasks
from scalesearch.search.queue.trials import candidate_of, task_of
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, claim, planted_evaluate, planted_study
from tests.search.test_worker import POLL_SECONDS, Counting, begin, run, signals_restored

__all__ = ["signals_restored"]

ROOT = Path(__file__).parents[2]


def age_heartbeats(study: StoredStudy) -> int:
    """Make the last heartbeat of every worker an hour old."""
    past = "datetime('now', '-1 hour')" if "sqlite" in study.storage.url else "now() - interval '1 hour'"
    with study.storage.engine.begin() as connection:
        return int(connection.execute(sqlalchemy.text(f"UPDATE trial_heartbeats SET heartbeat = {past}")).rowcount)


_BLOCKED = """
import sys, time
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue.storage import open_storage
from scalesearch.search.queue.work import work
study = studies.join_study(open_storage(sys.argv[1]), "planted")
config = studies.study_of(study)
def evaluate(candidate, seeds):
    time.sleep(1)  # for the first heartbeat
    print("evaluating", flush=True)
    time.sleep(600)
work(study, config, make_plan(config), evaluate)
"""


def kill_a_worker_in_mid_trial(url: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", _BLOCKED, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "evaluating\n"
        process.kill()


@pytest.mark.slow
def test_the_trial_of_a_killed_worker_is_tried_again(storage_url: str) -> None:
    study, plan = begin(storage_url, planted_study())
    kill_a_worker_in_mid_trial(storage_url)
    assert studies.count_states(study) == {"waiting": 14, "running": 1, "complete": 0, "pruned": 0, "failed": 0}
    assert studies.enqueue_missing(study, plan.trials) == 0  # it might live
    assert age_heartbeats(study) == 1  # the worker spoke only after its first one
    evaluate = Counting()
    run(storage_url, planted_study(), evaluate)
    assert Counter(candidate.spec for candidate in evaluate.candidates) == Counter(
        t.candidate.spec for t in plan.trials
    )
    assert study.trials[0].state == TrialState.FAIL
    assert task_of(study.trials[15]) == task_of(study.trials[0])
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 15, "pruned": 0, "failed": 0}


def test_a_worker_waits_for_others_and_takes_over_from_one_that_died(tmp_path: Path) -> None:
    study, plan = begin(sqlite_url(tmp_path), planted_study())
    study.record_heartbeat(claim(study).number)
    waits: list[int] = []

    def on_wait(running: int) -> None:
        waits.append(running)
        if len(waits) == 2:
            age_heartbeats(study)

    evaluate = Counting()
    work(study, planted_study(), plan, evaluate, on_wait=on_wait, poll_seconds=POLL_SECONDS)
    assert waits == [1, 1]
    assert [candidate.spec for candidate in evaluate.candidates[14:]] == [plan.trials[0].candidate.spec]
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 15, "pruned": 0, "failed": 0}


def test_a_worker_that_died_before_its_first_heartbeat_does_not_hold_its_trial_for_ever(tmp_path: Path) -> None:
    study, plan = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    claim(study)
    waits: list[int] = []

    def on_wait(running: int) -> None:
        waits.append(running)
        age_heartbeats(study)  # none, until the waiting worker gives it one
        assert len(waits) < 100

    evaluate = Counting()
    config = planted_study(design={"degree": 1})
    work(study, config, plan, evaluate, on_wait=on_wait, poll_seconds=0.05, grace_seconds=0.1)
    assert len(evaluate.candidates) == 3
    assert len(waits) > 2 * 0.1 / 0.05
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 3, "pruned": 0, "failed": 0}


def give_up(study: StoredStudy) -> None:
    """Do what another worker does with the running trial of `study` when its heartbeat is old."""
    while not age_heartbeats(study):  # the first one is on its way
        time.sleep(0.01)
    other = studies.join_study(open_storage(study.storage.url), study.study_name)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        optuna.storages.fail_stale_trials(other)


@pytest.mark.parametrize(
    "changes", [{}, {"design": {"kind": "tpe", "size": 15}}, {"prune": True, "seeds": 4}], ids=["", "tpe", "prune"]
)
def test_a_worker_that_slept_and_lost_its_trial_goes_on_with_the_next(tmp_path: Path, changes: Any) -> None:
    config = planted_study(**changes)
    slept: list[Candidate] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        evaluated.append(candidate)
        record = planted_evaluate(PlantedSurface())(candidate, seeds, watch)  # the pruner has noted its rungs
        if not slept:
            slept.append(candidate)
            give_up(study)
        return record

    evaluated: list[Candidate] = []
    study, plan = begin(sqlite_url(tmp_path), config)
    work(study, config, plan, evaluate)
    assert Counter(c.spec for c in evaluated)[slept[0].spec] == 2
    states = studies.count_states(study)
    assert (states["complete"] + states["pruned"], states["failed"]) == (15, 0)
    assert study.trials[0].state == TrialState.FAIL


def test_a_trial_that_is_given_up_between_its_record_and_its_end_is_evaluated_again(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)

    class Slow(TrialRecord):
        def mean(self, metric: str) -> float:  # what the worker asks for once the record is stored
            if len(evaluate.candidates) == 1:
                give_up(study)
            return super().mean(metric)

    def slow(candidate: Candidate, seeds: tuple[int, ...]) -> TrialRecord:
        record = planted_evaluate(PlantedSurface())(candidate, seeds)
        return Slow(**{field.name: getattr(record, field.name) for field in dataclasses.fields(record)})

    evaluate, ended = Counting(slow), list[int]()
    work(study, config, plan, evaluate, on_trial=lambda number, record: ended.append(number))
    assert len(evaluate.candidates) == 4
    assert ended == [1, 2, 3]
    assert len(studies.records(study)) == 3


def test_an_interrupt_of_a_trial_that_was_given_up_is_an_interrupt(tmp_path: Path) -> None:
    def evaluate(candidate: Candidate, seeds: tuple[int, ...]) -> TrialRecord:
        give_up(study)
        interrupts.request()
        interrupts.check()
        raise AssertionError

    study, plan = begin(sqlite_url(tmp_path), planted_study())
    with pytest.raises(KeyboardInterrupt), interrupts.deferred("stopping"):
        work(study, planted_study(), plan, evaluate)


def test_a_trial_is_not_dropped_for_one_that_has_ended_during_the_look(tmp_path: Path) -> None:
    """While this worker reads, another one is interrupted in a trial, and in the one that replaced it."""
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    for _ in range(2):
        study.tell(claim(study), 0.5)
    before = study.get_trials(deepcopy=False)
    other = studies.join_study(open_storage(sqlite_url(tmp_path)), config.name)
    for _ in range(2):
        trial = claim(other)
        studies.enqueue_again(other, trial)
        other.tell(trial, state=TrialState.FAIL)
    after = study.get_trials(deepcopy=False)
    tasks = QueuedTasks(study, None, workers=1)
    assert tasks.left([*before, *after[len(before) :]]) == 2  # the one that the other worker ended, and the last
    trial = claim(study)
    assert trial.number == 4
    assert tasks.task(trial)[0] == plan.trials[2].candidate


def test_a_trial_whose_workers_die_again_and_again_is_given_up(tmp_path: Path) -> None:
    study, plan = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    evaluate = Counting()
    for _ in range(MAX_RETRIES + 1):
        while candidate_of(trial := claim(study)) != plan.trials[0].candidate:
            study.tell(trial, state=TrialState.FAIL)
            studies.enqueue_missing(study, plan.trials)
        study.record_heartbeat(trial.number)
        age_heartbeats(study)
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            optuna.storages.fail_stale_trials(study)
    work(study, planted_study(design={"degree": 1}), plan, evaluate)
    assert {candidate.spec for candidate in evaluate.candidates} == {t.candidate.spec for t in plan.trials[1:]}
    assert studies.enqueue_missing(study, plan.trials) == 1  # run again: tried again
