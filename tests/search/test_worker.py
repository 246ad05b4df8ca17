"""Workers on a planted surface: every planned trial once, resumed, retried, shared; and each task evaluated once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from scalesearch.results.records import Failure, TrialRecord, record_to_json
from scalesearch.runtime import interrupts
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import Plan, make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.stored_study import QueueEmpty, StoredStudy
from scalesearch.search.queue.trials import candidate_of, seeds_of, set_record
from scalesearch.search.queue.work import Evaluate, work
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, claim, planted_evaluate, planted_study

ROOT = Path(__file__).parents[2]
SEARCH_SPACE = {"depth_share": FloatDistribution(0.0, 1.0), "width_fraction": FloatDistribution(0.0, 1.0)}


# How often a worker that waits looks at the study.
POLL_SECONDS = 0.05


@pytest.fixture
def signals_restored() -> Iterator[None]:
    """A test that interrupts itself leaves handlers that ignore further signals for a while.

    A shell starts its background jobs with SIGINT ignored.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Counting:
    """A planted evaluation that remembers the networks it was asked for."""

    def __init__(self, evaluate: Evaluate | None = None) -> None:
        self._evaluate = evaluate or planted_evaluate(PlantedSurface())
        self.candidates: list[Candidate] = []

    def __call__(self, candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        self.candidates.append(candidate)
        return self._evaluate(candidate, seeds)


def begin(url: str, config: Study) -> tuple[StoredStudy, Plan]:
    """What `run` does before it works."""
    plan = make_plan(config)
    study = studies.open_study(open_storage(url), config, "digest")
    studies.enqueue_missing(study, plan.distinct)
    return study, plan


def run(url: str, config: Study, evaluate: Evaluate, **options: Any) -> StoredStudy:
    study, plan = begin(url, config)
    work(study, config, plan, evaluate, poll_seconds=POLL_SECONDS, **options)
    return study


def test_every_planned_trial_is_evaluated_once_with_the_studys_seeds(tmp_path: Path) -> None:
    config = planted_study(seeds=3)
    ended: list[tuple[int, TrialRecord]] = []
    evaluate = Counting()
    study = run(sqlite_url(tmp_path), config, evaluate, on_trial=lambda *trial: ended.append(trial))
    planned = make_plan(config).trials
    assert [candidate.spec for candidate in evaluate.candidates] == [trial.candidate.spec for trial in planned]
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 15, "pruned": 0, "failed": 0}
    assert ended == list(enumerate(studies.records(study)))
    assert all([seed.seed for seed in record.seeds] == [0, 1, 2] for _, record in ended)
    assert all(trial.distributions == SEARCH_SPACE for trial in study.trials)


def test_planned_trials_that_are_nowhere_are_queued(tmp_path: Path) -> None:
    """As after the death of a process that was filling the queue."""
    config = planted_study()
    plan = make_plan(config)
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    studies.enqueue_missing(study, plan.trials[:4])
    work(study, config, plan, Counting(), poll_seconds=POLL_SECONDS)
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 15, "pruned": 0, "failed": 0}


def test_a_finished_search_resumes_with_nothing_to_do(tmp_path: Path) -> None:
    before = run(sqlite_url(tmp_path), planted_study(), Counting())
    evaluate = Counting()
    after = run(sqlite_url(tmp_path), planted_study(), evaluate)
    assert evaluate.candidates == []
    assert len(after.trials) == len(before.trials) == 15


def test_an_interrupted_trial_goes_back_and_resume_does_exactly_the_missing(tmp_path: Path) -> None:
    interrupted: list[Candidate] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        if len(first.candidates) == 6:
            interrupted.append(candidate)
            raise KeyboardInterrupt
        return planted_evaluate(PlantedSurface())(candidate, seeds)

    first = Counting(evaluate)
    study, plan = begin(sqlite_url(tmp_path), planted_study())
    with pytest.raises(KeyboardInterrupt):
        work(study, planted_study(), plan, first)
    assert studies.count_states(study) == {"waiting": 10, "running": 0, "complete": 5, "pruned": 0, "failed": 0}
    assert studies.enqueue_missing(study, plan.trials) == 0  # it went back by itself: other workers take it at once

    second = Counting()
    study = run(sqlite_url(tmp_path), planted_study(), second)
    assert len(second.candidates) == 10
    done = {candidate.spec for candidate in first.candidates[:5]}
    assert {candidate.spec for candidate in second.candidates} == {t.candidate.spec for t in plan.trials} - done
    assert interrupted[0].spec in {candidate.spec for candidate in second.candidates}
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 15, "pruned": 0, "failed": 0}
    assert len(studies.records(study)) == 15


def test_a_recorded_failure_is_kept_and_not_tried_again(tmp_path: Path) -> None:
    failing = make_plan(planted_study()).trials[4].candidate.spec
    failure = Failure("diverged", "loss must stay finite")
    evaluate = planted_evaluate(PlantedSurface(), fail=lambda c: failure if c.spec == failing else None)
    ended: list[tuple[int, TrialRecord]] = []
    study = run(sqlite_url(tmp_path), planted_study(), evaluate, on_trial=lambda *trial: ended.append(trial))
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 14, "pruned": 0, "failed": 1}
    assert [number for number, record in ended if record.failure == failure] == [4]
    assert study.trials[4].state == TrialState.FAIL
    assert study.trials[4].user_attrs["failure"] == {"kind": "diverged", "reason": "loss must stay finite"}

    again = Counting()
    run(sqlite_url(tmp_path), planted_study(), again)
    assert again.candidates == []
    assert studies.records(study)[4].failure == failure


def test_a_defect_ends_the_work_and_its_trial_is_missing(tmp_path: Path) -> None:
    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        run(sqlite_url(tmp_path), planted_study(), evaluate)
    evaluated = Counting()
    run(sqlite_url(tmp_path), planted_study(), evaluated)
    assert len({candidate.spec for candidate in evaluated.candidates}) == len(evaluated.candidates) == 15


def test_a_trial_cut_short_behind_its_record_has_not_failed(tmp_path: Path) -> None:
    study, plan = begin(sqlite_url(tmp_path), planted_study())
    trial = claim(study)
    record = planted_evaluate(PlantedSurface())(plan.trials[0].candidate, (0, 1))
    set_record(trial, record_to_json(record))
    study.tell(trial, state=TrialState.FAIL)
    assert studies.count_states(study)["failed"] == 0
    assert studies.enqueue_missing(study, plan.trials) == 1


def test_two_runs_that_fill_the_queue_at_once_evaluate_each_network_once(tmp_path: Path) -> None:
    study, plan = begin(sqlite_url(tmp_path), planted_study())
    for planned in plan.trials:
        studies.enqueue(study, planned.candidate, planned.seeds, planned=True)
    evaluate = Counting()
    work(study, planted_study(), plan, evaluate)
    assert len({candidate.spec for candidate in evaluate.candidates}) == len(evaluate.candidates) == 15
    assert Counter(trial.state for trial in study.trials) == {TrialState.COMPLETE: 15, TrialState.PRUNED: 15}


def test_a_twin_that_another_worker_evaluates_meanwhile_is_pruned(tmp_path: Path) -> None:
    """While this worker evaluates its first trial, another queues a network twice, and evaluates all but one trial."""
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    planted, again = planted_evaluate(PlantedSurface()), plan.trials[0].candidate

    def work_elsewhere() -> None:
        other = studies.join_study(open_storage(sqlite_url(tmp_path)), config.name)
        for _ in range(2):
            studies.enqueue(other, again, (99,), planned=False)
        for _ in range(3):
            trial = claim(other)
            candidate = candidate_of(trial)
            assert candidate is not None
            set_record(trial, record_to_json(planted(candidate, seeds_of(trial))))
            other.tell(trial, 0.5)

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        if not counting.candidates[1:]:
            work_elsewhere()
        return planted(candidate, seeds)

    counting = Counting(evaluate)
    work(study, config, plan, counting)
    assert len(counting.candidates) == 1
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4 + [TrialState.PRUNED]


def test_a_trial_queued_without_its_parameters_ends_with_them(tmp_path: Path) -> None:
    """As the ones that wait in a study of an earlier version, or of Optuna's own `enqueue_trial`."""
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    study.tell(claim(study), state=TrialState.FAIL)
    first = study.trials[0]
    study.enqueue_trial(first.params, user_attrs=first.user_attrs)
    assert study.trials[-1].params == {}
    work(study, config, plan, Counting())
    assert study.trials[-1].state == TrialState.COMPLETE
    assert study.trials[-1].params == first.params
    assert study.trials[-1].distributions == SEARCH_SPACE


def test_a_trial_is_reported_before_an_interrupt_ends_the_work(tmp_path: Path, signals_restored: None) -> None:
    ended: list[int] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        signal.raise_signal(signal.SIGINT)
        return planted_evaluate(PlantedSurface())(candidate, seeds)

    with pytest.raises(KeyboardInterrupt), interrupts.deferred("stopping"):
        run(sqlite_url(tmp_path), planted_study(), evaluate, on_trial=lambda number, record: ended.append(number))
    assert ended == [0]


def test_a_trial_that_nobody_queued_is_pruned(tmp_path: Path) -> None:
    """As one that a worker of an earlier version claimed, after others had taken the last of the queue."""
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    for planned in plan.trials:
        study.tell(claim(study), state=TrialState.FAIL)
        studies.enqueue(study, planned.candidate, planned.seeds, planned=True)
    study.add_trial(optuna.create_trial(state=TrialState.WAITING))
    work(study, config, plan, Counting())
    assert [trial.state for trial in study.trials[3:]] == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED]
    assert len(studies.records(study)) == 3


def test_a_worker_that_lost_the_race_for_the_last_trial_makes_no_other(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    other = studies.join_study(open_storage(sqlite_url(tmp_path)), config.name)
    study.get_trials(deepcopy=False)
    claimed = [claim(other) for _ in range(3)]
    with pytest.raises(QueueEmpty):
        study.ask()
    assert len(study.trials) == 3
    for trial, planned in zip(claimed, plan.trials, strict=True):
        set_record(trial, record_to_json(planted_evaluate(PlantedSurface())(planned.candidate, planned.seeds)))
        other.tell(trial, 0.5)
    work(study, config, plan, Counting())
    assert len(study.trials) == 3


_PARALLEL = """
import random, sys, time
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue.storage import open_storage
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, planted_evaluate
study = studies.join_study(open_storage(sys.argv[1]), "planted")
config = studies.study_of(study)
plan = make_plan(config)
planted = planted_evaluate(PlantedSurface())
def evaluate(candidate, seeds, watch):
    print(candidate.spec, flush=True)
    time.sleep(random.random() / 50)
    return planted(candidate, seeds)
print("ready", flush=True)
sys.stdin.readline()
work(study, config, plan, evaluate, poll_seconds=0.05)
"""


def in_processes(url: str, number: int) -> Counter[str]:
    """Networks that `number` processes evaluated, which begin together."""
    command = [sys.executable, "-c", _PARALLEL, url]
    pipe = subprocess.PIPE
    children = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(number)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outputs = [""] * number

    def finish(place: int) -> None:
        outputs[place] = children[place].communicate("go\n")[0]

    threads = [threading.Thread(target=finish, args=(place,)) for place in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.returncode for child in children] == [0] * number
    return Counter(line for output in outputs for line in output.splitlines())


@pytest.mark.slow
def test_processes_share_the_queue_and_evaluate_every_network_once(storage_url: str) -> None:
    study, plan = begin(storage_url, planted_study())
    evaluated = in_processes(storage_url, 4)
    assert evaluated == Counter(str(trial.candidate.spec) for trial in plan.trials)
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 15, "pruned": 0, "failed": 0}
    expected = {trial.candidate.spec for trial in plan.trials}
    assert {record.candidate.spec for record in studies.records(study)} == expected


@pytest.mark.slow
@pytest.mark.long
def test_adaptive_processes_evaluate_distinct_networks_and_no_more_than_asked(storage_url: str) -> None:
    study, _ = begin(storage_url, planted_study(design={"kind": "tpe", "size": 14}))
    evaluated = in_processes(storage_url, 4)
    assert len(evaluated) == 14
    assert set(evaluated.values()) == {1}
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 14, "pruned": 0, "failed": 0}


def test_threads_share_the_queue_too(storage_url: str) -> None:
    _, plan = begin(storage_url, planted_study())
    evaluate = Counting()
    errors: list[BaseException] = []

    def join() -> None:
        try:
            study = studies.join_study(open_storage(storage_url), "planted")
            work(study, planted_study(), plan, evaluate, poll_seconds=POLL_SECONDS)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=join) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Counter(c.spec for c in evaluate.candidates) == Counter(t.candidate.spec for t in plan.trials)


def test_a_worker_expects_the_next_in_the_queue_before_each_evaluation(tmp_path: Path) -> None:
    evaluated: list[tuple[Candidate, tuple[int, ...]] | None] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        evaluated.append((candidate, seeds))
        return planted_evaluate(PlantedSurface())(candidate, seeds)

    expected: list[tuple[Candidate, tuple[int, ...]]] = []
    run(sqlite_url(tmp_path), planted_study(), evaluate, expect=lambda *following: expected.append(following))
    assert len(expected) == len(evaluated) - 1 > 3  # after the last there is none
    assert expected == evaluated[1:]
