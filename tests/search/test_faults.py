"""Faults of a PostgreSQL server in the middle of a trial: the worker waits, says so once, and trains nothing twice."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest
from sqlalchemy import event

from scalesearch.errors import StorageError
from scalesearch.results.records import TrialRecord
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.lease import LostTrials
from scalesearch.search.queue.patience import waiting
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.storage import open_storage
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.trials import BEAT, deaths_of
from scalesearch.search.queue.work import work
from tests.planted import planted_study
from tests.postgresql import Server
from tests.search.test_worker import Counting, begin

pytestmark = pytest.mark.postgresql
CONFIG = planted_study(design={"degree": 1})
DONE = {"waiting": 0, "running": 0, "complete": 3, "pruned": 0, "failed": 0}


class Disturbed(Counting):
    """Evaluations of which the first is disturbed in its middle."""

    def __init__(self, disturb: Any) -> None:
        super().__init__()
        self._disturb = disturb

    def __call__(self, candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        if not self.candidates:
            self._disturb()
        return super().__call__(candidate, seeds, watch)


def test_a_server_that_is_away_in_mid_trial_is_waited_for_and_that_is_said_once(postgresql: Server) -> None:
    url = postgresql.create_database()
    study, plan = begin(url, CONFIG)

    def go_away() -> None:
        postgresql.stop()
        timer.start()

    timer = threading.Timer(2.0, postgresql.start)
    evaluate = Disturbed(go_away)
    with pytest.warns(UserWarning, match="storage") as notes, waiting(60.0):
        work(study, CONFIG, plan, evaluate, beat_seconds=0.2)
    timer.join()
    said = [str(note.message) for note in notes]
    assert re.match(r"waiting up to 1 min for the storage .*: connection failed: .*refused", said[0])
    assert re.match(r"the storage .* is back after \d+ s", said[1])
    assert len(said) == 2
    assert "s3cret" not in "".join(said)
    assert len(evaluate.candidates) == 3
    assert studies.count_states(study) == DONE


def test_without_patience_the_work_ends_and_its_trial_is_taken_back_at_once(postgresql: Server) -> None:
    study, plan = begin(postgresql.create_database(), CONFIG)
    evaluate = Disturbed(postgresql.stop)
    try:
        with pytest.warns(UserWarning, match="waiting up to 1 s"), waiting(1.0), pytest.raises(StorageError) as caught:
            work(study, CONFIG, plan, evaluate)
        assert "\n" not in str(caught.value)
        assert "run the same command again" in str(caught.value)
    finally:
        postgresql.start()
    began = time.monotonic()
    work(study, CONFIG, plan, evaluate)
    assert time.monotonic() - began < 30
    assert len(evaluate.candidates) == 4
    assert studies.count_states(study) == DONE
    assert len(deaths_of(study.trials[0])) == 1


def test_signs_of_life_go_on_when_the_server_is_back(postgresql: Server) -> None:
    url = postgresql.create_database()
    study, plan = begin(url, CONFIG)

    def count_of(other: StoredStudy) -> int:
        return int(other.trials[0].user_attrs.get(BEAT, [0])[0])

    def disturb() -> None:
        other = studies.join_study(open_storage(url), CONFIG.name)
        running = other.get_trials(deepcopy=False)
        postgresql.stop()
        time.sleep(0.5)
        # Nor does another worker, which cannot see them, take the trial back, or wait.
        assert not LostTrials(other, "val_loss", 0.0).take_back(running)
        postgresql.start()
        before, end = count_of(other), time.monotonic() + 20
        while count_of(other) < before + 3:
            assert time.monotonic() < end
            time.sleep(0.05)

    evaluate = Disturbed(disturb)
    with waiting(60.0):
        work(study, CONFIG, plan, evaluate, beat_seconds=0.1)
    assert len(evaluate.candidates) == 3
    assert studies.count_states(study) == DONE


@pytest.mark.parametrize("where", ["before its end is asked for", "after its end is written"])
def test_connections_cut_between_a_record_and_its_end_lose_nothing(postgresql: Server, where: str) -> None:
    study, plan = begin(postgresql.create_database(), CONFIG)
    cuts, ended = list[str](), list[int]()

    def cut(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        wanted = "FOR UPDATE" in statement if where.startswith("before") else statement.startswith("UPDATE trials")
        if evaluate.candidates and not cuts and wanted:
            cuts.append(statement)
            postgresql.cut_connections()

    evaluate = Counting()
    before = where.startswith("before")
    event.listen(study.storage.engine, "before_cursor_execute" if before else "after_cursor_execute", cut)
    with waiting(60.0):
        work(study, CONFIG, plan, evaluate, on_trial=lambda number, record: ended.append(number))
    assert (len(cuts), ended) == (1, [0, 1, 2])
    assert len(evaluate.candidates) == 3
    assert studies.count_states(study) == DONE
