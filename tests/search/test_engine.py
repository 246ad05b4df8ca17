"""The engine on real data and tiny networks: one call does the whole job, and a worker that dies loses no trial."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

import scalesearch
from scalesearch.errors import InputError, ScalesearchError, StudyMismatch
from scalesearch.search.events import (
    EpochEnded,
    Event,
    Planned,
    SearchEnded,
    SearchStarted,
    TrialsEnded,
)
from scalesearch.search.queue.optuna_study import join_study
from scalesearch.search.queue.storage import open_storage, sqlite_url, study_names
from scalesearch.search.queue.trials import deaths_of, worker_of
from scalesearch.search.supervision import WorkerFailed
from scalesearch.study.sections import Study
from tests.cli.tiny import ROOT, TINY, environment

MEBIBYTE = 2**20


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return scalesearch.load_study(path)


class Recorder:
    """The events of a search."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def messages(self) -> list[str]:
        return [event for event in self.events if isinstance(event, str)]


@pytest.mark.slow
def test_one_call_does_the_whole_job_and_resumes(study: Study, tmp_path: Path) -> None:
    recorder = Recorder()
    run = scalesearch.search(study, tmp_path / "run", events=recorder)
    assert run.states == {"waiting": 0, "running": 0, "complete": 3, "pruned": 0, "failed": 0}
    assert run.records == scalesearch.load(tmp_path / "run").records
    assert (tmp_path / "run" / "report.html").exists()

    # Events: the plan first; then the search, with an event an epoch and each trial once; then its end.
    assert isinstance(recorder.events[0], Planned)
    (started,) = recorder.of(SearchStarted)
    assert (started.trials, started.records, started.metric) == (4, (), "val_loss")
    trials = [record for event in recorder.of(TrialsEnded) for record in event.records]
    assert run.reference is not None
    of_baseline = dataclasses.replace(run.reference, phi=1.0)  # as it is stored
    assert sorted(map(repr, trials)) == sorted(map(repr, (*run.records, of_baseline)))
    epochs = [event.done for event in recorder.of(EpochEnded)]
    assert sorted(epochs) == sorted([0.25, 0.5, 0.75, 1.0, 0.0] * 4)  # two seeds of two epochs; then the next trial
    assert recorder.events[-1] == SearchEnded(missing=0, failed=0)

    # Again, nothing is left to train, and the rule is the same.
    again = Recorder()
    resumed = scalesearch.search(study, tmp_path / "run", events=again)
    assert resumed.rule == run.rule
    assert again.messages == ["all trials are finished: nothing to train"]
    assert not again.of(SearchStarted)

    # Other settings in the same folder are refused.
    with pytest.raises(StudyMismatch, match="`seeds` was 2, now 1"):
        scalesearch.search(study, tmp_path / "run", events=again, seeds=1)


WATCHED = """
import json, pathlib, sys
import scalesearch
from scalesearch.search.events import SearchEnded

seen = {}

def on_event(event):
    if isinstance(event, SearchEnded):
        status = pathlib.Path("/proc/self/status").read_text()
        seen["kibibytes"] = int(status.partition("VmHWM:")[2].split()[0])  # largest resident memory so far

scalesearch.search(sys.argv[1], sys.argv[2], events=on_event)
print(json.dumps({**seen, "jax": sorted({"jax", "flax", "optax"} & set(sys.modules))}))
"""


@pytest.mark.slow
def test_the_process_that_watches_never_imports_jax_and_stays_small(study: Study, tmp_path: Path) -> None:
    del study  # its file is what is needed
    command = [sys.executable, "-c", WATCHED, str(tmp_path / "tiny.toml"), str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["jax"] == []
    assert seen["kibibytes"] * 1024 < 150 * MEBIBYTE


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again_and_no_trial_is_lost(study: Study, tmp_path: Path) -> None:
    recorder, killed = Recorder(), []

    def on_event(event: Event) -> None:
        recorder(event)
        if isinstance(event, TrialsEnded) and not killed:  # between two trials
            worker = max(_children())
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)

    run = scalesearch.search(study, tmp_path / "run", events=on_event)
    assert killed
    assert run.states["complete"] == 3
    (restart,) = (text for text in recorder.messages if "it is started again" in text)
    assert restart.startswith("a worker ended early with exit code -9: killed")


@pytest.mark.slow
def test_a_run_that_is_killed_with_its_worker_goes_on_at_once_when_it_is_run_again(
    study: Study, tmp_path: Path
) -> None:
    del study  # its file is what is needed
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "scalesearch", "run", "--study", tmp_path / "tiny.toml", "--out", folder]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL) as run:
        try:
            held = _held(folder)
            workers = _children(run.pid)
        finally:
            run.kill()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
    assert held["process"] in workers
    resumed = scalesearch.search(tmp_path / "tiny.toml", folder, events=Recorder())
    assert resumed.states == {"waiting": 0, "running": 0, "complete": 3, "pruned": 0, "failed": 0}
    # By its lock: no time has passed without a sign of life.
    storage = open_storage(sqlite_url(folder))
    deaths = [
        death
        for name in study_names(storage)
        for trial in join_study(storage, name).trials
        for death in deaths_of(trial)
    ]
    assert deaths == [f"process {held['process']} on {held['host']} ended"]


def _held(folder: Path) -> Mapping[str, Any]:
    """Waits until a worker holds a trial of the study in `folder`: who it is."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(ScalesearchError):  # nothing there yet
            storage = open_storage(sqlite_url(folder), read_only=True)
            for name in study_names(storage):
                for trial in join_study(storage, name).get_trials(states=(TrialState.RUNNING,)):
                    if worker := worker_of(trial):
                        return worker
        time.sleep(0.1)
    raise AssertionError("no trial has begun")


def _children(process: int | str = "self") -> list[int]:
    """Processes that this one, or another, has started."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text(encoding="utf-8").split()]


@pytest.mark.slow
def test_workers_that_crash_again_and_again_end_the_search(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag")  # XLA ends the process where it meets one
    with pytest.raises(WorkerFailed, match="a worker ended early with exit code .*started again 4 times") as caught:
        scalesearch.search(study, tmp_path / "run", events=Recorder())
    assert caught.value.exit_code == 1
    assert scalesearch.load(tmp_path / "run").states["waiting"] == 3


@pytest.mark.slow
def test_what_a_worker_refuses_is_raised_here(study: Study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'`runtime.convolutions` = "pallas" is not available here') as caught:
        scalesearch.search(study, tmp_path / "run", events=Recorder(), runtime={"convolutions": "pallas"})
    assert caught.value.exit_code == 2
    assert scalesearch.load(tmp_path / "run").states["waiting"] == 3  # no trial was claimed


def test_bad_input_leaves_no_folder(study: Study, tmp_path: Path) -> None:
    with pytest.raises(ScalesearchError, match="no://such cannot be used"):
        scalesearch.search(study, tmp_path / "run", storage="no://such", events=Recorder())
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="`budget` must be greater than 1"):
        scalesearch.search(study, tmp_path / "run", budget=1.0)
    with pytest.raises(InputError, match=r"`training.epochs` must be a whole number"):
        scalesearch.search(study, tmp_path / "run", training={"epochs": "many"})
