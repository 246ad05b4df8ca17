"""How much more many workers train than one: throughput on PostgreSQL and SQLite with 1 to 32 worker processes.

    scaling.py [--seconds 5] [--rounds 4] [--workers 1,2,4,8,16,32] [--quick] [--output FILE.jsonl]

A trial sleeps for so many seconds, which costs no core, so what is missing to the ideal is the storage's and ours.
Every worker is a process that has joined before the clock starts, and gets so many trials. Prints a JSON line for
each number of workers: the fraction of the ideal throughput while all work (a trial's seconds, as a part of the mean
time from one trial of a worker to its next one) and from the first claim to the last record (with the reading of the
study by each worker, and the last trials); seconds of the processor that a worker takes for a trial, without those of
the server; and the memory that a worker has for itself, where it was forked from one that had imported everything.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the planted surface and the server are the tests'

from chaos import publish

from scalesearch.results.records import TrialRecord
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import Plan, make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.filling import fill_queue
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, planted_evaluate, planted_study
from tests.postgresql import Server

Answers = SimpleQueue[tuple[int, float, float]]
"""Of each worker: how many trials followed its first one, in how many seconds, of the clock and of the processor."""

ON_SQLITE = 8
"""SQLite is measured with at most so many workers."""


def _worker(url: str, study: Study, plan: Plan, seconds: float, ready: Barrier, answers: Answers) -> None:
    planted = planted_evaluate(PlantedSurface())
    begun: list[tuple[float, float]] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        del watch
        begun.append((time.monotonic(), time.process_time()))
        time.sleep(seconds)
        return planted(candidate, seeds)

    optuna_study = studies.join_study(open_storage(url, create=False), study.name)
    ready.wait()
    work(optuna_study, study, plan, evaluate)
    (first, cpu_first), (last, cpu_last) = (begun[0], begun[-1]) if begun else ((0.0, 0.0), (0.0, 0.0))
    answers.put((max(len(begun) - 1, 0), last - first, cpu_last - cpu_first))


def measure(url: str, workers: int, rounds: int, seconds: float) -> dict[str, float]:
    """Throughput and fraction of the ideal of so many workers, each with `rounds` trials of `seconds`."""
    wanted = workers * rounds
    study = planted_study(
        name=f"scaling-{workers}", design={"kind": "qmc", "size": 2 * wanted}, seeds=1, tolerance=0.05
    )
    plan = make_plan(study)
    assert len(plan.distinct) >= wanted
    plan = dataclasses.replace(plan, trials=plan.distinct[:wanted])
    optuna_study = studies.open_study(open_storage(url), study, "digest")
    fill_queue(optuna_study, study, plan)
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(workers + 1)
    answers: Answers = context.SimpleQueue()
    arguments = (url, study, plan, seconds, ready, answers)
    processes = [context.Process(target=_worker, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
    time.sleep(rounds * seconds / 2)
    memory = sum(private_bytes(process.pid or 0) for process in processes) / workers
    cycles, cycle_seconds, cpu = (sum(values) for values in zip(*(answers.get() for _ in processes), strict=True))
    for process in processes:
        process.join()
    trials = optuna_study.get_trials(deepcopy=False)
    first = min(trial.datetime_start for trial in trials if trial.datetime_start is not None)
    last = max(trial.datetime_complete for trial in trials if trial.datetime_complete is not None)
    elapsed = (last - first).total_seconds()
    return {
        "trials": len(trials),
        "complete": sum(trial.state.name == "COMPLETE" for trial in trials),
        "seconds": round(elapsed, 3),
        "with_start_and_end": round(time.perf_counter() - started, 3),
        "of_ideal": round(seconds * cycles / cycle_seconds, 4),
        "of_ideal_with_first_and_last": round(rounds * seconds / elapsed, 4),
        "cpu_s_per_trial": round(cpu / cycles, 4),
        "mebibytes": round(memory / 2**20),
    }


def private_bytes(process: int) -> int:
    """Memory that a process does not share with others."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


@contextlib.contextmanager
def storages() -> Iterator[dict[str, str]]:
    """The URL of each storage, by name."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as files:
        server = Server(Path(files))
        server.start()
        try:
            yield {"postgresql": server.create_database(), "sqlite": sqlite_url(Path(folder))}
        finally:
            server.stop()


def main() -> int:
    """Measure each number of workers on each storage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--workers", default="1,2,4,8,16,32")
    parser.add_argument("--quick", action="store_true", help="1 and 2 workers, trials of half a second")
    parser.add_argument("--output", type=Path, help="append the JSON lines to this file, too")
    arguments = parser.parse_args()
    counts = [int(text) for text in arguments.workers.split(",")]
    seconds = arguments.seconds
    if arguments.quick:
        counts, seconds = [1, 2], 0.5
    with storages() as urls:
        for name, url in urls.items():
            for workers in [count for count in counts if name != "sqlite" or count <= ON_SQLITE]:
                load = round(os.getloadavg()[0], 1)
                measured = measure(url, workers, arguments.rounds, seconds)
                settings = {"storage": name, "workers": workers, "sleep": seconds, "load_before": load}
                publish({**settings, **measured}, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
