"""Chaos: workers on a planted study while faults hit them and their storage, and what is left when they are done."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalesearch.analysis.table_files import write_tables
from scalesearch.export.rule_json import rule_text
from scalesearch.results.load import load
from scalesearch.results.save import save_study
from scalesearch.runtime.workers import INTERRUPTED, Workers
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.filling import fill_queue
from scalesearch.search.queue.storage import copy_to_folder, open_storage, sqlite_url
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.trials import deaths_of, has_record
from scalesearch.search.queue.work import work
from tests.chaos_worker import MODULE, STEPS, chaos_study
from tests.planted import PlantedSurface, planted_evaluate
from tests.postgresql import PostgresqlServer

JUMP_SECONDS = 7200
_EXITS = {
    -signal.SIGKILL: "killed",
    -signal.SIGTERM: "terminated while it started",
    INTERRUPTED: "interrupted",
    4: "storage",
    1: "unexpected",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """How long everything takes, in seconds, and how often faults come.

    `weights` says how likely each kind of fault is; `seconds` for how long faults come.
    """

    workers: int
    trials: int
    trial: float
    seconds: float
    every: float
    beat: float
    grace: float
    stopped: tuple[float, float]
    down: tuple[float, float]
    full: tuple[float, float]
    locked: tuple[float, float]
    weights: Mapping[str, float]
    limit: float
    poll: float = 0.5
    monotonic_jumps: bool = False
    seed: int = 0


QUICK = Setting(
    workers=4, trials=24, trial=2.5, seconds=20.0, every=1.0, beat=0.5, grace=4.0, stopped=(5.0, 6.0), down=(2.0, 4.0),
    full=(2.0, 4.0), locked=(7.0, 8.0), limit=240.0, poll=0.25,
    weights={"kill": 2, "terminate": 1, "stop": 1, "clock": 1, "cut": 2, "restart": 1, "full": 1, "locked": 1},
)  # fmt: skip
"""The short form: everything is faster, signs of life too."""


@dataclass
class Faults:
    """Injects faults at random, and ends each in time.

    Args:
        setting: which, how often and for how long.
        workers: the workers that are hit.
        clocks: by index of a worker with a clock of its own: the file that sets it.
        server: the PostgreSQL server, if the storage is one.
        database: the file of SQLite, if the storage is one.
    """

    setting: Setting
    workers: Workers
    clocks: Mapping[int, Path]
    server: PostgresqlServer | None = None
    database: Path | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.setting.seed)
        self._undo: list[tuple[float, int, str, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._active: Counter[str] = Counter()
        self._stopped: set[int] = set()
        self._started = time.monotonic()
        self._next = self._started + self.setting.every

    def step(self) -> None:
        """Ends the faults whose time is over, and injects the next one if it is time."""
        now = time.monotonic()
        while self._undo and self._undo[0][0] <= now:
            _, _, kind, undo = heapq.heappop(self._undo)
            undo()
            self._active[kind] -= 1
        if now >= self._next and now - self._started < self.setting.seconds:
            self._next = now + self.setting.every * self._rng.uniform(0.5, 1.5)
            kinds = [kind for kind in self.setting.weights if self._is_possible(kind)]
            (kind,) = self._rng.choices(kinds, [self.setting.weights[kind] for kind in kinds])
            getattr(self, f"_{kind}")()
            self.counts[kind] += 1

    def end(self) -> None:
        """Ends all faults."""
        while self._undo:
            heapq.heappop(self._undo)[3]()

    def _is_possible(self, kind: str) -> bool:
        if kind in ("kill", "stop", "terminate"):
            return bool(self._targets())
        if kind == "clock":
            return bool(self.clocks)
        if kind == "locked":
            return self.database is not None and not self._active["locked"]
        away = self._active["restart"] + self._active["full"]
        return self.server is not None and not away and (kind != "full" or self.server.has_small_disk)

    def _targets(self) -> list[int]:
        return [index for index in self.workers.process_ids if index not in self._stopped]

    def _later(self, kind: str, bounds: tuple[float, float], undo: Callable[[], None]) -> None:
        self._active[kind] += 1
        end = time.monotonic() + self._rng.uniform(*bounds)
        heapq.heappush(self._undo, (end, next(self._numbers), kind, undo))

    def _signal(self, number: signal.Signals) -> tuple[int, int]:
        index = self._rng.choice(self._targets())
        process = self.workers.process_ids[index]
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        return index, process

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def _stop(self) -> None:
        index, process = self._signal(signal.SIGSTOP)
        self._stopped.add(index)

        def go_on() -> None:
            self._stopped.discard(index)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

        self._later("stop", self.setting.stopped, go_on)

    def _clock(self) -> None:
        path = self._rng.choice([*self.clocks.values()])
        jumped = path.read_text(encoding="ascii").strip() != "+0"
        path.write_text("+0" if jumped else f"+{JUMP_SECONDS}", encoding="ascii")

    def _restart(self) -> None:
        assert self.server is not None
        self.server.stop()
        self._later("restart", self.setting.down, self.server.start)

    def _cut(self) -> None:
        assert self.server is not None
        self.server.cut_connections()

    def _full(self) -> None:
        assert self.server is not None
        self.server.fill()
        self._later("full", self.setting.full, self.server.drain)

    def _locked(self) -> None:
        connection = sqlite3.connect(str(self.database), isolation_level=None, timeout=30)
        connection.execute("BEGIN EXCLUSIVE")
        self._later("locked", self.setting.locked, connection.close)


def faketime() -> str | None:
    """The library that gives a process another clock; None where it is not installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else None


def own_clocks(setting: Setting, folder: Path) -> tuple[list[dict[str, str]], dict[int, Path]]:
    """What gives the first workers clocks of their own, and the files that set them.

    The second one's monotonic clock jumps, too, if the setting says so. No real one does.
    """
    environments: list[dict[str, str]] = [{} for _ in range(setting.workers)]
    clocks: dict[int, Path] = {}
    if (library := faketime()) is None:
        return environments, clocks
    for index in range(1 + setting.monotonic_jumps):
        clocks[index] = folder / f"clock{index}"
        clocks[index].write_text("+0", encoding="ascii")
        environments[index] = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(clocks[index]),
            "FAKETIME_CACHE_DURATION": "1",
        }
    environments[0]["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
    return environments, clocks


def run(setting: Setting, url: str, folder: Path, server: PostgresqlServer | None = None) -> dict[str, Any]:
    """Workers train the planned trials while faults hit them; what they did, and how it compares to a quiet run.

    Args:
        setting: how many, how long.
        url: an empty storage.
        folder: an empty folder, for what is compared.
        server: the server of `url`, if it is on one.
    """
    began = time.monotonic()
    study, plan = chaos_study(setting.trials)
    optuna_study = studies.open_study(open_storage(url), study, "digest")
    fill_queue(optuna_study, study, plan)
    log = folder / "log"
    instruction = {
        "storage": url, "trials": setting.trials, "log": str(log), "seconds": setting.trial, "spread": 0.5,
        "patience": 1800.0, "poll_seconds": setting.poll, "beat_seconds": setting.beat, "grace_seconds": setting.grace,
    }  # fmt: skip
    environments, clocks = own_clocks(setting, folder)
    exits, notes, errors, given_up = Counter[str](), Counter[str](), list[str](), 0
    with Workers(MODULE, [instruction] * setting.workers, environments) as workers:
        database = None if server is not None else Path(str(optuna_study.storage.engine.url.database))
        faults = Faults(setting, workers, clocks, server, database)
        try:
            while True:
                for _, message in workers.messages(0.1):
                    if "note" in message:
                        notes[_kind(message["note"])] += 1
                    elif "error" in message:
                        errors.append(message.get("traceback", message["error"]))
                for index, code, _ in workers.ended():
                    if code:
                        exits[_EXITS.get(code, str(code))] += 1
                        workers.start(index)
                faults.step()
                if time.monotonic() - began > setting.limit or len(errors) > 20:
                    raise AssertionError(f"no end after {setting.limit:.0f} s: {errors}")
                if not workers.alive:
                    faults.end()
                    missing = fill_queue_again(url, setting.trials)
                    if not missing:
                        break
                    given_up += missing  # what the user does who runs the search again
                    for index in range(setting.workers):
                        workers.start(index)
        finally:
            faults.end()
    seconds = time.monotonic() - began
    return {
        "seconds": round(seconds),
        "faults": dict(sorted(faults.counts.items())),
        "exits": dict(exits),
        "notes": dict(notes),
        "errors": errors,
        "queued_again": given_up,
        **trained(log, setting.trials),
        **compared(url, folder, setting.trials),
    }


def is_sound(result: Mapping[str, Any]) -> bool:
    """Whether the result of `run` says that nothing was lost, and nothing counted twice."""
    same = result["recorded_once"] and result["same_records"] and all(result["same_files"].values())
    return same and not result["errors"]


def fill_queue_again(url: str, trials: int) -> int:
    """What `run` does first: queues trials that were given up, whose workers died again and again; how many."""
    study, plan = chaos_study(trials)
    optuna_study = studies.join_study(open_storage(url), study.name)
    before = len(optuna_study.get_trials(deepcopy=False))
    fill_queue(optuna_study, study, plan)
    return len(optuna_study.get_trials(deepcopy=False)) - before


def trained(log: Path, trials: int) -> dict[str, Any]:
    """What the workers' log says: evaluations that began and ended, and how much was trained more than once."""
    lines = [line.split() for line in log.read_text(encoding="ascii").splitlines()]
    counts = Counter(line[1] for line in lines)
    ends = Counter(line[0] for line in lines if line[1] == "end")
    return {
        "evaluations_begun": counts["begin"],
        "evaluations_ended": counts["end"],
        "ended_twice": sum(count - 1 for count in ends.values()),
        "trained_more_than_needed": round(counts["step"] / (trials * STEPS) - 1, 4),
    }


def compared(url: str, folder: Path, trials: int) -> dict[str, Any]:
    """The state of the stored study, and whether records and files are those of a run that nobody disturbed."""
    study, plan = chaos_study(trials)
    disturbed = studies.join_study(open_storage(url), study.name)
    folders = folder / "disturbed", folder / "quiet"
    for each in folders:
        each.mkdir()
    quiet = studies.open_study(open_storage(sqlite_url(folders[1])), study, "digest")
    work(quiet, study, plan, planted_evaluate(PlantedSurface()))
    copy_to_folder(disturbed, folders[0])
    files = [_files(each, study) for each in folders]
    stored = disturbed.get_trials(deepcopy=False)
    recorded = Counter(repr(trial.user_attrs["candidate"]["spec"]) for trial in stored if has_record(trial))
    return {
        "states": studies.count_states(disturbed),
        "recorded_once": len(recorded) == trials and set(recorded.values()) == {1},
        "twins_left_out": len(stored) - trials,
        "deaths": sum(len(deaths_of(trial)) for trial in stored),
        "same_records": _records(disturbed) == _records(quiet),
        "same_files": {name: files[0][name] == files[1][name] for name in files[1]},
    }


def _records(optuna_study: StoredStudy) -> list[str]:
    return list(map(repr, studies.records(optuna_study)))


def _files(folder: Path, study: Any) -> dict[str, str]:
    save_study(folder, study)
    found = load(folder)
    write_tables(folder, found.trials, found.candidates)
    tables = {name: (folder / name).read_text(encoding="utf-8") for name in ("trials.csv", "candidates.csv")}
    rule = json.loads(rule_text(found.rule))
    rule.pop("provenance")
    return {**tables, "coefficients.json": json.dumps(rule)}


def _kind(note: str) -> str:
    """A note without its times and hosts."""
    if note.startswith("waiting up to"):
        return "waits for the storage"
    return "the storage is back" if "is back after" in note else note
