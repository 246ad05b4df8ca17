"""Trials whose workers die, sleep or are interrupted: each is evaluated in the end, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from scalesearch.errors import StorageError
from scalesearch.results.records import TrialRecord, record_to_json
from scalesearch.runtime import interrupts
from scalesearch.runtime.presence import present
from scalesearch.runtime.workers import MAX_DEATHS
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.queue import lease
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.lease import Lease, LostTrials, end
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.reading import StudyReader
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.trials import (
    BEAT,
    WORKER,
    candidate_of,
    deaths_of,
    done_of,
    seeds_of,
    set_candidate,
    set_record,
    worker_of,
)
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, claim, planted_evaluate, planted_study
from tests.search.test_worker import POLL_SECONDS, Counting, begin, run, signals_restored

__all__ = ["signals_restored"]

ROOT = Path(__file__).parents[2]
DONE = {"waiting": 0, "running": 0, "complete": 15, "pruned": 0, "failed": 0}

_BLOCKED = """
import sys, time
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue.storage import open_storage
from scalesearch.search.queue.work import work
study = studies.join_study(open_storage(sys.argv[1]), "planted")
config = studies.study_of(study)
def evaluate(candidate, seeds, watch):
    print("evaluating", flush=True)
    time.sleep(600)
work(study, config, make_plan(config), evaluate)
"""


def blocked_worker(url: str) -> subprocess.Popen[str]:
    """A worker process that has begun a trial, which takes ten minutes."""
    process = subprocess.Popen([sys.executable, "-c", _BLOCKED, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "evaluating\n"
    return process


@pytest.mark.slow
def test_the_trial_of_a_killed_worker_of_this_machine_is_taken_back_at_once(storage_url: str) -> None:
    study, plan = begin(storage_url, planted_study())
    with blocked_worker(storage_url) as process:
        assert studies.count_states(study) == {**DONE, "waiting": 14, "running": 1, "complete": 0}
        assert studies.enqueue_missing(study, plan.trials) == 0  # it lives
        LostTrials(study, "val_loss").take_back(study.get_trials(deepcopy=False))
        assert study.trials[0].state == TrialState.RUNNING
        process.kill()
    waits: list[int] = []
    evaluate = Counting()
    run(storage_url, planted_study(), evaluate, on_wait=waits.append)
    assert waits == []
    assert Counter(c.spec for c in evaluate.candidates) == Counter(t.candidate.spec for t in plan.trials)
    assert studies.count_states(study) == DONE
    assert len(study.trials) == 15
    assert deaths_of(study.trials[0]) == [f"process {process.pid} on {worker_of(study.trials[0])['host']} ended"]


def test_who_does_not_wait_for_others_takes_the_trial_of_a_dead_worker_all_the_same(tmp_path: Path) -> None:
    study, plan = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    with present() as presence:
        for worker in (presence, presence, elsewhere()):
            claim(study).set_user_attr(WORKER, worker)
    Path(presence["lock"]).touch()  # as a killed process leaves it
    waits, evaluate = list[int](), Counting()
    work(study, planted_study(design={"degree": 1}), plan, evaluate, wait=False, on_wait=waits.append)
    assert (len(evaluate.candidates), waits) == (2, [])


def elsewhere(process: int = 7) -> dict[str, Any]:
    """A worker on another machine."""
    return {"host": "elsewhere", "process": process, "lock": "/tmp/some.lock"}


def test_a_worker_waits_for_others_and_takes_over_from_one_that_died(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    held = claim(study)
    held.set_user_attr(WORKER, elsewhere())
    waits: list[int] = []

    def on_wait(running: int) -> None:
        waits.append(running)
        if len(waits) < 10:  # it lives
            held.set_user_attr(BEAT, [len(waits), 0.1])

    evaluate = Counting()
    work(study, config, plan, evaluate, on_wait=on_wait, poll_seconds=POLL_SECONDS, grace_seconds=1.5)
    assert len(waits) > 10  # as long as it gave signs of life, and the grace period
    assert [candidate.spec for candidate in evaluate.candidates[2:]] == [plan.trials[0].candidate.spec]
    assert studies.count_states(study) == {**DONE, "complete": 3}
    assert deaths_of(study.trials[0]) == ["no sign of life from process 7 on elsewhere for 2 s"]


def test_a_worker_that_died_before_it_said_who_it_is_does_not_hold_its_trial_for_ever(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    claim(study)
    evaluate = Counting()
    work(study, config, plan, evaluate, poll_seconds=0.05, grace_seconds=0.1)
    assert len(evaluate.candidates) == 3
    assert studies.count_states(study) == {**DONE, "complete": 3}


def ended() -> dict[str, Any]:
    """A worker of this machine that has ended."""
    with contextlib.suppress(KeyboardInterrupt), present() as presence:
        raise KeyboardInterrupt
    return presence


def test_a_trial_whose_record_is_stored_is_not_given_back_but_ended(tmp_path: Path) -> None:
    """As when the storage took the record, the connection broke before it said so, and an interrupt ended the wait."""
    study, plan = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    trial, worker = claim(study), ended()
    with Lease(study.storage, study.id_of(trial.number), worker) as held:
        set_record(trial, record_to_json(planted_evaluate(PlantedSurface())(plan.trials[0].candidate, (0, 1))))
        held.give_back()
    assert study.trials[0].state == TrialState.RUNNING
    assert LostTrials(study, "val_loss").take_back(study.get_trials(deepcopy=False))
    assert study.trials[0].state == TrialState.COMPLETE


def test_a_trial_holds_what_its_record_says_whatever_a_worker_that_slept_wrote_since(tmp_path: Path) -> None:
    """In an adaptive search it may choose another candidate for a trial that was taken back."""
    study, plan = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    first, second = (trial.candidate for trial in plan.trials[:2])
    trial = claim(study)
    set_record(trial, record_to_json(planted_evaluate(PlantedSurface())(first, (0, 1))))
    set_candidate(trial, second, (0, 1))
    assert candidate_of(study.trials[0]) == first


def test_a_trial_that_was_taken_back_and_claimed_again_is_not_judged_by_the_worker_before(tmp_path: Path) -> None:
    """Between its claim and its first sign of life."""
    study, _ = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    held = claim(study)
    held.set_user_attr(WORKER, ended())
    held.set_user_attr(BEAT, [3, 0.5])
    assert LostTrials(study, "val_loss").take_back(study.get_trials(deepcopy=False))
    assert claim(study).number == 0  # before those that nobody has claimed yet
    assert not LostTrials(study, "val_loss").take_back(study.get_trials(deepcopy=False))
    assert study.trials[0].state == TrialState.RUNNING
    assert len(deaths_of(study.trials[0])) == 1
    assert done_of(study.trials[0]) is None  # what it had trained is lost


@pytest.mark.parametrize("grace", [60.0, 4.0])
def test_time_in_which_the_storage_was_away_is_not_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    study, _ = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    claim(study).set_user_attr(WORKER, elsewhere())
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lost_trials = LostTrials(study, "val_loss", grace)
    states = []
    for seconds in (0.0, 3600.0, *[10.0] * 5):
        now += seconds * grace / 60
        lost_trials.take_back(study.get_trials(deepcopy=False))
        states.append(study.trials[0].state)
    running = TrialState.RUNNING
    assert states == [running] * 6 + [TrialState.WAITING]


def test_time_in_which_the_storage_took_no_writes_is_not_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a full disk: others can be read, but their signs of life are not stored."""
    study, _ = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    claim(study).set_user_attr(WORKER, elsewhere())
    is_full, now = False, 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    @event.listens_for(study.storage.engine, "begin")
    def begin_transaction(connection: Any) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only = {int(is_full)}")

    @event.listens_for(study.storage.engine, "rollback")
    def roll_back(connection: Any) -> None:
        connection.exec_driver_sql("PRAGMA query_only = 0")

    lost_trials = LostTrials(study, "val_loss", 4.0)
    states = []
    for second in range(10):
        trials, is_full = study.get_trials(deepcopy=False), second == 5
        lost_trials.take_back(trials)
        is_full = False
        states.append(study.trials[0].state)
        now += 1.0 if second else 0.0
    running = TrialState.RUNNING
    assert states == [running] * 9 + [TrialState.WAITING]


def give_up(study: StoredStudy, number: int = 0) -> None:
    """Do what another worker does with the running trial of `study` when it gives no sign of life."""
    other = studies.join_study(open_storage(str(study.storage.stored.url)), study.study_name)
    lost_trials = LostTrials(other, "val_loss", grace_seconds=0.0)
    lost_trials.take_back(other.get_trials(deepcopy=False))
    assert other.trials[number].state != TrialState.RUNNING


def claim_elsewhere(study: StoredStudy) -> optuna.Trial:
    """Do what another worker does that takes the next trial."""
    return claim(studies.join_study(open_storage(str(study.storage.stored.url)), study.study_name))


@pytest.mark.parametrize("is_claimed_again", [False, True])
def test_a_trial_that_changed_since_it_was_read_is_not_taken_back(tmp_path: Path, is_claimed_again: bool) -> None:
    study, _ = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    claim(study)
    give_up(study)
    held = claim_elsewhere(study)  # and has not said who it is
    trials = study.get_trials(deepcopy=False)
    if is_claimed_again:
        give_up(study)
        assert claim_elsewhere(study).number == 0
    else:
        held.set_user_attr(BEAT, [1, 0.5])
    assert not LostTrials(study, "val_loss", grace_seconds=0.0).take_back(trials)
    assert study.trials[0].state == TrialState.RUNNING


def after_read(study: StoredStudy, number: int, act: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Has `act` happen after `study` has read a trial by itself for the `number`th time."""
    reads, read = itertools.count(1), study.storage.get_trial

    def get_trial(trial_id: int) -> FrozenTrial:
        trial: FrozenTrial = read(trial_id)
        if next(reads) == number:
            act()
        return trial

    patch.setattr(study.storage, "get_trial", get_trial)


def test_of_two_workers_that_take_a_trial_back_at_once_the_slower_leaves_it_to_who_claimed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        give_up(study)
        assert claim_elsewhere(study).number == 0

    study, _ = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    claim(study)
    after_read(study, 1, act, monkeypatch)
    trials = study.get_trials(deepcopy=False)
    LostTrials(study, "val_loss", grace_seconds=0.0).take_back(trials)
    assert study.trials[0].state == TrialState.RUNNING
    assert study.trials[0].datetime_start > trials[0].datetime_start


@pytest.mark.parametrize("read", [1, 2])
def test_a_trial_that_ends_while_it_is_taken_back_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    study, _ = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    claim(study)
    other = studies.join_study(open_storage(sqlite_url(tmp_path)), study.study_name)
    after_read(study, read, lambda: other.tell(0, 1.0), monkeypatch)
    assert LostTrials(study, "val_loss", grace_seconds=0.0).take_back(study.get_trials(deepcopy=False))
    assert study.trials[0].state == TrialState.COMPLETE


@pytest.mark.parametrize(
    "changes", [{}, {"design": {"kind": "tpe", "size": 15}}, {"prune": True, "seeds": 4}], ids=["", "tpe", "prune"]
)
def test_a_late_result_is_adopted(tmp_path: Path, changes: Any) -> None:
    """A worker that slept, and was given up, ends the trial that waits again."""
    config = planted_study(**changes)
    evaluated: list[Candidate] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        evaluated.append(candidate)
        record = planted_evaluate(PlantedSurface())(candidate, seeds, watch)
        if len(evaluated) == 1:
            give_up(study)
        return record

    study, plan = begin(sqlite_url(tmp_path), config)
    work(study, config, plan, evaluate)
    assert len(evaluated) == len({candidate.spec for candidate in evaluated}) == 15
    states = studies.count_states(study)
    assert (states["complete"] + states["pruned"], states["failed"]) == (15, 0)
    assert len(study.trials) == 15


def test_a_late_result_is_adopted_while_another_worker_runs_the_trial(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    late_is_done, begun = threading.Event(), threading.Event()
    counts = Counter[str]()

    def late(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        counts["late"] += 1
        if counts["late"] == 1:
            give_up(study)
            second.start()
            assert begun.wait(10)
        return planted_evaluate(PlantedSurface())(candidate, seeds, watch)

    def cut_short(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        begun.set()
        assert late_is_done.wait(10)
        record = planted_evaluate(PlantedSurface())(candidate, seeds, watch)
        counts["cut short"] += 1
        return record

    def on_trial(number: int, record: TrialRecord) -> None:
        if number == 0:
            late_is_done.set()

    def join() -> None:
        other = studies.join_study(open_storage(sqlite_url(tmp_path)), config.name)
        work(other, config, plan, cut_short, poll_seconds=POLL_SECONDS)

    second = threading.Thread(target=join)
    study, plan = begin(sqlite_url(tmp_path), config)
    work(study, config, plan, late, on_trial=on_trial, poll_seconds=POLL_SECONDS)
    second.join()
    assert counts["late"] == 3 or counts["cut short"] == 3 - counts["late"] + 1
    assert studies.count_states(study) == {**DONE, "complete": 3}
    assert len(study.trials) == 3


def test_a_worker_whose_trial_has_ended_elsewhere_learns_it_from_its_beat(tmp_path: Path) -> None:
    study, _ = begin(sqlite_url(tmp_path), planted_study(design={"degree": 1}))
    trial = claim(study)
    with present() as presence, Lease(study.storage, study.id_of(trial.number), presence, 0.01) as held:
        held.done = 0.25
        while study.trials[0].user_attrs.get(BEAT, [0])[0] < 3:
            assert not held.is_over
        assert study.trials[0].user_attrs[BEAT][1] == 0.25
        study.tell(trial, 1.0)
        last = time.monotonic() + 10
        while not held.is_over:
            assert time.monotonic() < last
            time.sleep(0.01)


def test_a_worker_whose_trial_has_ended_elsewhere_stops_and_goes_on_with_the_next(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    begun, ended = list[Candidate](), list[int]()
    report: Any = SimpleNamespace(share=0.0)  # all that a study without pruning reads

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        record = planted_evaluate(PlantedSurface())(candidate, seeds)
        begun.append(candidate)
        if len(begun) == 1:
            trial_id = study.id_of(0)
            set_record(optuna.Trial(study, trial_id), record_to_json(record))
            end(study.storage, trial_id, record, config.metric)
            last = time.monotonic() + 10
            while True:
                watch(report)
                assert time.monotonic() < last
                time.sleep(0.01)
        return record

    study, plan = begin(sqlite_url(tmp_path), config)
    work(study, config, plan, evaluate, on_trial=lambda number, record: ended.append(number), beat_seconds=0.01)
    assert (len(begun), ended) == (3, [1, 2])
    assert studies.count_states(study) == {**DONE, "complete": 3}


class FailingStorage:
    """A storage that takes only every third write, with errors of several kinds."""

    def __init__(self) -> None:
        self.calls, self.times, self.stored = 0, list[float](), list[Any]()
        self.is_stored = threading.Event()

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.calls += 1
        self.times.append(time.monotonic())
        if key == BEAT and self.calls % 3:
            raise (StorageError("removed"), MemoryError())[self.calls % 3 - 1]
        self.stored.append(value)
        if len(self.stored) == 3:
            self.is_stored.set()

    def remove_session(self) -> None:
        pass


def test_signs_of_life_go_on_after_any_error() -> None:
    storage: Any = FailingStorage()
    with Lease(storage, 1, elsewhere(), 0.01):
        assert storage.is_stored.wait(10)
    assert storage.calls > 4


def test_a_sign_of_life_that_was_not_stored_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RETRY_SECONDS", 0.01)
    storage: Any = FailingStorage()
    with Lease(storage, 1, elsewhere(), 1.0):
        while storage.calls < 3:
            time.sleep(0.01)
    assert storage.times[1] - storage.times[0] >= 1.0
    assert storage.times[2] - storage.times[1] < 1.0


def test_a_record_whose_worker_died_before_its_end_is_kept(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    trial = claim(study)
    candidate = candidate_of(trial)
    assert candidate is not None
    set_record(trial, record_to_json(planted_evaluate(PlantedSurface())(candidate, seeds_of(trial))))
    give_up(study)
    evaluate = Counting()
    work(study, config, plan, evaluate)
    assert len(evaluate.candidates) == 2
    assert studies.count_states(study) == {**DONE, "complete": 3}


def test_who_finds_its_record_ended_by_another_worker_reports_the_trial_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the record and its end it was taken for dead."""
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    ended, write = list[int](), study.storage.set_trial_state_values

    def set_trial_state_values(*arguments: Any, **options: Any) -> bool:
        if TrialState.COMPLETE in arguments and not ended:
            give_up(study)
        return bool(write(*arguments, **options))

    monkeypatch.setattr(study.storage, "set_trial_state_values", set_trial_state_values)
    work(study, config, plan, Counting(), on_trial=lambda number, record: ended.append(number))
    assert ended == [0, 1, 2]
    assert studies.count_states(study) == {**DONE, "complete": 3}


def test_an_interrupted_trial_goes_back_as_it_is_unless_another_worker_holds_it(tmp_path: Path) -> None:
    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        give_up(study)
        claimed = claim_elsewhere(study)
        assert claimed.number == 0
        claimed.set_user_attr(WORKER, elsewhere())
        interrupts.request()
        interrupts.check()
        raise AssertionError

    study, plan = begin(sqlite_url(tmp_path), planted_study())
    with pytest.raises(KeyboardInterrupt), interrupts.deferred("stopping"):
        work(study, planted_study(), plan, evaluate)
    assert study.trials[0].state == TrialState.RUNNING
    assert worker_of(study.trials[0]) == elsewhere()


def test_a_trial_whose_workers_die_again_and_again_is_given_up(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    for _ in range(MAX_DEATHS + 1):
        assert claim(study).number == 0
        give_up(study)
    assert len(deaths_of(study.trials[0])) == MAX_DEATHS + 1
    evaluate = Counting()
    work(study, config, plan, evaluate)
    assert {candidate.spec for candidate in evaluate.candidates} == {t.candidate.spec for t in plan.trials[1:]}
    assert studies.enqueue_missing(study, plan.trials) == 1  # run again: tried again
    work(study, config, plan, evaluate)
    # In the order of a quiet run, though trained last: sums over the records are the same to the last bit.
    assert [record.candidate for record in studies.records(study)] == [trial.candidate for trial in plan.trials]
    assert StudyReader(study).read().records == studies.records(study)


def test_an_error_in_a_trial_puts_it_back_with_the_reason(tmp_path: Path) -> None:
    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        raise RuntimeError("no such device")

    config = planted_study(design={"degree": 1})
    study, plan = begin(sqlite_url(tmp_path), config)
    with pytest.raises(RuntimeError, match="no such device"):
        work(study, config, plan, evaluate)
    assert study.trials[0].state == TrialState.WAITING
    assert deaths_of(study.trials[0]) == ["RuntimeError: no such device"]
