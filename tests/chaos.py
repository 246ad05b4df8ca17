"""Workers on a planted surface, and faults at random: each trial must be complete once, with the result of a quiet run.

`chaos` starts the workers, breaks things, and says what came of it. As a program it is one of the workers.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scalesearch.results.records import TrialRecord
from scalesearch.runtime import interrupts
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.patience import waiting
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.storage import open_storage
from scalesearch.search.queue.work import work
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, planted_evaluate
from tests.postgresql import Server

ROOT = Path(__file__).parents[1]
INTERRUPTED = 130
PARTS = 10
"""A training is interrupted between two of its parts."""
PATIENCE = 86_400.0  # more than the jumps of a clock
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How fast everything goes, in seconds.

    `trial` is how long a trial takes, `beat` and `grace` are those of `work`, `between` lies between two faults. A
    server stays away and a disk full for a random time in `away`, a file locked for one in `locked`; a worker is
    stopped for one in `stopped`. The clock of worker `moved` is faked for all clocks, also for the monotonic one.
    """

    trial: float
    beat: float
    grace: float
    between: float
    away: tuple[float, float]
    stopped: tuple[float, float]
    locked: tuple[float, float]
    moved: int | None = None


QUICK = Pace(trial=1.5, beat=0.5, grace=3.0, between=1.0, away=(1.0, 3.0), stopped=(1.0, 6.0), locked=(1.0, 5.0))


@dataclasses.dataclass
class Report:
    """What came of it: faults by kind, trainings begun and ended by trial, exit codes that no fault explains.

    `needlessly` is how many trials two workers trained to the end, neither of which any fault had befallen: one that is
    killed while it cannot store its result, as the server is away, loses it. `again` is the part of all work that was
    trained more than once: 0.1 for a tenth more than a quiet run's.
    """

    faults: collections.Counter[str]
    begun: collections.Counter[int]
    ended: collections.Counter[int]
    needlessly: int
    again: float
    unexplained: list[str]
    seconds: float


class Arena:
    """The workers of one study, and what can be done to them."""

    def __init__(self, url: str, study: Study, folder: Path, pace: Pace, count: int, seed: int) -> None:
        self.url, self.study, self.folder, self.pace = url, study, folder, pace
        self.random = random.Random(seed)
        self.unexplained: list[str] = []
        self.befallen = set[int]()  # processes
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._expected = collections.Counter[int]()  # exit codes that a fault explains, by worker
        for index in range(count):
            self.start(index)

    def start(self, index: int) -> None:
        """Starts a worker, with a clock of its own where libfaketime is installed."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        clock = self.folder / f"clock-{index}"
        if FAKETIME is not None:
            if not clock.exists():
                clock.write_text("+0", encoding="utf-8")
            environment |= {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_NO_CACHE": "1",
            }
            if index != self.pace.moved:
                environment["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
        pace = [str(value) for value in (self.pace.trial, self.pace.beat, self.pace.grace)]
        command = [sys.executable, "-m", "tests.chaos", self.url, self.study.name, str(self.folder), *pace]
        with (self.folder / f"errors-{index}").open("ab") as errors:
            self._workers[index] = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=errors)
        if FAKETIME is not None and index == self.pace.moved:
            self.befallen.add(self._workers[index].pid)

    def look(self) -> bool:
        """Starts those again that a fault has ended; whether any worker still runs."""
        for index, worker in [*self._workers.items()]:
            code = worker.poll()
            if code is None:
                continue
            del self._workers[index]
            if code == 0:
                continue
            if code not in (INTERRUPTED, -signal.SIGKILL, -signal.SIGTERM):  # the last before it handles signals
                lines = (self.folder / f"errors-{index}").read_text(encoding="utf-8").strip().splitlines()
                self.unexplained.append(f"exit code {code}: {lines[-1] if lines else ''}")
            self.start(index)
        return bool(self._workers)

    def any_worker(self) -> tuple[int, subprocess.Popen[bytes]] | None:
        """One of those that run, for a fault."""
        return self.random.choice(sorted(self._workers.items())) if self._workers else None

    def signal(self, number: signal.Signals) -> subprocess.Popen[bytes] | None:
        """Sends a signal to one of those that run: which one."""
        if (one := self.any_worker()) is None:
            return None
        self.befallen.add(one[1].pid)
        one[1].send_signal(number)
        return one[1]

    def between(self, bounds: tuple[float, float]) -> float:
        """A random time."""
        return self.random.uniform(*bounds)

    def end(self) -> None:
        """Kills what still runs."""
        for worker in self._workers.values():
            worker.kill()
            worker.wait()


Fault = Callable[[Arena], Iterator[float]]
"""Breaks something. What it yields is how many seconds later it goes on, and mends it."""


def _send(number: signal.Signals) -> Fault:
    def fault(arena: Arena) -> Iterator[float]:
        arena.signal(number)
        yield 0.0

    return fault


def _stop_and_continue(arena: Arena) -> Iterator[float]:
    if (one := arena.signal(signal.SIGSTOP)) is not None:
        yield arena.between(arena.pace.stopped)
        one.send_signal(signal.SIGCONT)


def _jump(arena: Arena) -> Iterator[float]:
    if (one := arena.any_worker()) is not None:
        clock = arena.folder / f"clock-{one[0]}"
        hours = arena.random.choice((-2, 2))
        if one[0] == arena.pace.moved:  # a monotonic clock never goes back
            hours = int(clock.read_text(encoding="utf-8").strip("+h")) + 2
        clock.write_text(f"{hours:+d}h", encoding="utf-8")
    yield 0.0


def _lock(arena: Arena) -> Iterator[float]:
    with contextlib.closing(sqlite3.connect(arena.folder / "study.db", isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield arena.between(arena.pace.locked)
        other.execute("ROLLBACK")


KILLS: Mapping[str, Fault] = {
    "kill": _send(signal.SIGKILL),
    "terminate": _send(signal.SIGTERM),
    "stop and continue": _stop_and_continue,
    **({"clock jumps two hours": _jump} if FAKETIME is not None else {}),
}
"""Faults of workers."""

OF_SQLITE: Mapping[str, Fault] = {**KILLS, "locked by another program": _lock}


def of_server(server: Server, disk: Path | None = None) -> Mapping[str, Fault]:
    """Faults of workers and of their server; `disk` is the small file system that its files are on."""

    def restart(arena: Arena) -> Iterator[float]:
        server.stop()
        yield arena.between(arena.pace.away)
        server.start()

    def cut(arena: Arena) -> Iterator[float]:
        import psycopg

        with psycopg.connect(arena.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            )
        yield 0.0

    def fill(arena: Arena) -> Iterator[float]:
        assert disk is not None
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(2**16))
        yield arena.between(arena.pace.away)
        filler.unlink()
        if not server.is_up():  # it ends where its log cannot grow
            server.start()

    faults = {**KILLS, "server restarts": restart, "server's connections cut": cut}
    return faults if disk is None else {**faults, "server's disk is full": fill}


class Turmoil:
    """Lets faults happen, each kind once before any happens twice, if it can; mends what is broken, each in its time.

    What has lasted does not happen again for twice as long: work must go on, too. Nor do two of the server's overlap.
    """

    def __init__(self, arena: Arena, faults: Mapping[str, Fault]) -> None:
        self._arena, self._faults = arena, faults
        self._bag: list[str] = []
        self._lasting: dict[str, tuple[float, Iterator[float]]] = {}  # when it is mended, and how
        self._rests: dict[str, float] = {}  # until when
        self.happened = collections.Counter[str]()

    def break_something(self) -> None:
        """Lets the next fault happen, if any can now."""
        now = time.monotonic()
        is_server_away = any(kind.startswith("server") for kind in self._lasting)
        possible = {
            kind
            for kind in self._faults
            if now >= self._rests.get(kind, 0.0) and not (is_server_away and kind.startswith("server"))
        }
        self._bag = [kind for kind in self._bag if kind in possible]
        self._bag = self._bag or self._arena.random.sample(sorted(possible), len(possible))
        if self._bag:
            kind = self._bag.pop()
            fault = self._faults[kind](self._arena)
            if (lasts := next(fault, None)) is not None:
                self._lasting[kind] = now + lasts, fault
                self._rests[kind] = now + 3 * lasts
                self.happened[kind] += 1

    def mend(self, until: float) -> None:
        """Mends what was to last until then."""
        for kind, (end, fault) in [*self._lasting.items()]:
            if end <= until:
                next(fault, None)
                del self._lasting[kind]


def chaos(
    url: str,
    study: Study,
    folder: Path,
    faults: Mapping[str, Callable[[Arena], None]],
    *,
    workers: int,
    seconds: float,
    pace: Pace,
    seed: int = 0,
) -> Report:
    """Lets workers train `study`, and a fault of the `faults` happen from time to time for so many `seconds`.

    Returns when all trials have ended.
    """
    plan = make_plan(study)
    studies.enqueue_missing(studies.open_study(open_storage(url), study, "digest"), plan.distinct)
    started = time.monotonic()
    arena = Arena(url, study, folder, pace, workers, seed)
    turmoil = Turmoil(arena, faults)
    due = last = math.inf
    try:
        while arena.look() and time.monotonic() - started < 4 * seconds + 60:
            now = time.monotonic()
            if math.isinf(due) and (folder / "trainings").exists():  # else faults would only hit imports
                due, last = now, now + seconds
            turmoil.mend(now)
            if due <= now < last:
                turmoil.break_something()
                due = now + pace.between * arena.random.uniform(0.5, 1.5)
            time.sleep(0.1)
    finally:
        turmoil.mend(math.inf)
        arena.end()
    counts = {word: collections.Counter[int]() for word in ("begun", "part", "ended")}
    undisturbed = collections.Counter[int]()
    for line in (folder / "trainings").read_text(encoding="utf-8").splitlines():
        word, number, process = line.split()
        counts[word][int(number)] += 1
        undisturbed[int(number)] += word == "ended" and int(process) not in arena.befallen
    return Report(
        faults=turmoil.happened,
        begun=counts["begun"],
        ended=counts["ended"],
        needlessly=sum(count > 1 for count in undisturbed.values()),
        again=counts["part"].total() / (PARTS * len(plan.distinct)) - 1.0,
        unexplained=arena.unexplained,
        seconds=time.monotonic() - started,
    )


def expected_records(study: Study) -> tuple[TrialRecord, ...]:
    """The records of an undisturbed run."""
    evaluate = planted_evaluate(PlantedSurface())
    return tuple(evaluate(trial.candidate, trial.seeds) for trial in make_plan(study).distinct)


def _worker(url: str, name: str, folder: str, trial: str, beat: str, grace: str) -> int:
    numbers: dict[Any, int] = {}
    planted = planted_evaluate(PlantedSurface())

    def note(word: str, candidate: Candidate) -> None:
        with (Path(folder) / "trainings").open("a", encoding="utf-8") as file:
            file.write(f"{word} {numbers[candidate.spec]} {os.getpid()}\n")

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        note("begun", candidate)
        for _ in range(PARTS):
            time.sleep(float(trial) / PARTS)
            note("part", candidate)
            interrupts.check()
            watch(SimpleNamespace(share=1 / PARTS))  # type: ignore[arg-type]  # all that a study without pruning reads
        note("ended", candidate)
        return planted(candidate, seeds)

    if "LD_PRELOAD" in os.environ:  # libfaketime 0.9.10 breaks the system call of `time.sleep`
        time.sleep = lambda seconds: select.select([], [], [], seconds)  # type: ignore[assignment,return-value]
    interrupts.immediate()
    try:
        with interrupts.deferred(""), waiting(PATIENCE):
            optuna_study = studies.join_study(open_storage(url, create=False), name)
            study = studies.study_of(optuna_study)
            plan = make_plan(study)
            numbers.update({planned.candidate.spec: number for number, planned in enumerate(plan.distinct)})
            pace = {"poll_seconds": 0.2, "beat_seconds": float(beat), "grace_seconds": float(grace)}
            work(optuna_study, study, plan, evaluate, **pace)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os._exit(_worker(*sys.argv[1:]))
