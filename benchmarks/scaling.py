"""How much more many workers train than one: throughput on PostgreSQL and SQLite with 1 to 32 worker processes.

    scaling.py [--seconds 5] [--rounds 4] [--workers 1,2,4,8,16,32] [--quick] [--output FILE.jsonl]

A trial sleeps for so many seconds, which costs no core, so what is missing to the ideal is the storage's and ours.
Every worker is a process that has joined before the clock starts, and gets so many trials. Prints a JSON line for
each number of workers: trials per second between the first claim and the last record, and the fraction of the ideal.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the planted surface and the server are the tests'

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

ON_SQLITE = 8
"""SQLite is measured with at most so many workers."""


def _worker(url: str, study: Study, plan: Plan, seconds: float, ready: Barrier) -> None:
    planted = planted_evaluate(PlantedSurface())

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        del watch
        time.sleep(seconds)
        return planted(candidate, seeds)

    optuna_study = studies.join_study(open_storage(url, create=False), study.name)
    ready.wait()
    work(optuna_study, study, plan, evaluate)


def measure(url: str, workers: int, rounds: int, seconds: float) -> dict[str, float]:
    """Throughput and fraction of the ideal of so many workers, each with `rounds` trials of `seconds`."""
    wanted = workers * rounds
    study = planted_study(name=f"scaling-{workers}", design={"kind": "qmc", "size": 2 * wanted}, seeds=1)
    plan = make_plan(study)
    assert len(plan.distinct) >= wanted
    plan = dataclasses.replace(plan, trials=plan.distinct[:wanted])
    optuna_study = studies.open_study(open_storage(url), study, "digest")
    fill_queue(optuna_study, study, plan)
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(workers + 1)
    processes = [context.Process(target=_worker, args=(url, study, plan, seconds, ready)) for _ in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
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
        "trials_per_second": round(len(trials) / elapsed, 4),
        "of_ideal": round(rounds * seconds / elapsed, 4),
    }


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
                line = json.dumps(
                    {
                        "storage": name, "workers": workers, "sleep": seconds, **measured, "load_before": load,
                        "cores": os.cpu_count(), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                    }
                )  # fmt: skip
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
                if arguments.output is not None:
                    with arguments.output.open("a", encoding="utf-8") as file:
                        file.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
