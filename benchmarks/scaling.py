"""How many workers share a study before they hinder one another: throughput against the ideal.

    scaling.py [--workers N …] [--sqlite N …] [--rounds 6] [--quick] [--output FILE.json]

Each of 1 to 32 worker processes on PostgreSQL, and of 1 to 8 on SQLite, evaluates some trials of a known surface. An
evaluation sleeps for 5 s and costs no processor. All begin together. Prints JSON, for each number of workers:

- share_of_ideal: 5 s as a share of the mean time from one evaluation of a worker to its next one.
- whole: the same from the moment at which all are told to begin (the stored study is read then) to the last result.
- cpu_s_per_trial, cpu_s_to_start: seconds of the processor that a worker takes for each trial beside its evaluation,
  and for its imports; those of the server are not in it.
- mebibytes: the memory of a worker that it does not share.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the workers are the tests'
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], *filter(None, [os.environ.get("PYTHONPATH")])])

from scalesearch.runtime.workers import Workers
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.filling import fill_queue
from scalesearch.search.queue.storage import open_storage, sqlite_url
from tests.chaos_worker import MODULE, chaos_study
from tests.postgresql import PostgresqlServer

SECONDS = 5.0
MOST_TRIALS = 220
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32], help="on PostgreSQL")
    parser.add_argument("--sqlite", type=int, nargs="*", default=[1, 2, 4, 8], help="on SQLite")
    parser.add_argument("--rounds", type=int, default=6, help="trials for each worker")
    parser.add_argument("--quick", action="store_true", help="two workers, two trials each, of half a second")
    parser.add_argument("--output", type=Path, help="also write the JSON there")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.workers, arguments.sqlite, arguments.rounds = [2], [2], 2
    seconds = 0.5 if arguments.quick else SECONDS
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="scalesearch-scaling-") as name:
        if arguments.workers:
            with PostgresqlServer() as server:
                for count in arguments.workers:
                    folder = Path(name, f"postgresql{count}")
                    rows.append(
                        measured("postgresql", count, arguments.rounds, seconds, server.create_database(), folder)
                    )
        for count in arguments.sqlite:
            folder = Path(name, f"sqlite{count}")
            rows.append(measured("sqlite", count, arguments.rounds, seconds, sqlite_url(folder), folder))
    machine = {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "cores": os.cpu_count()}
    text = json.dumps({**machine, "evaluation_s": seconds, "rows": rows}, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


def measured(storage: str, count: int, rounds: int, seconds: float, url: str, folder: Path) -> dict[str, Any]:
    """The figures of `count` workers."""
    folder.mkdir()
    rounds = min(rounds, MOST_TRIALS // count)
    study, plan = chaos_study(rounds * count)
    fill_queue(studies.open_study(open_storage(url), study, "digest"), study, plan)
    log, go = folder / "log", folder / "go"
    instruction = {
        "storage": url, "trials": rounds * count, "log": str(log), "seconds": seconds, "spread": 0.0, "go": str(go),
        "patience": 60.0, "poll_seconds": 0.5, "beat_seconds": 15.0, "grace_seconds": 60.0,
    }  # fmt: skip
    load = os.getloadavg()[0]
    ready, ended, before, memory, after = 0, 0, [0.0], [0.0], [0.0]
    with Workers(MODULE, [instruction] * count) as workers:
        processes = [*workers.process_ids.values()]
        started = last = time.time()
        while ended < rounds * count:
            for _, message in workers.messages(0.05):
                ready += "ready" in message
                ended += "trial" in message
                last = time.time()
                if ready == count and not go.exists():
                    before = list(map(processor_seconds, processes))
                    go.touch()
                    started = time.time()
                if "error" in message or "note" in message:
                    raise SystemExit(message.get("error") or message.get("note"))
            if ended >= rounds * count:
                after, memory = list(map(processor_seconds, processes)), list(map(mebibytes, processes))
    elapsed = last - started
    row = {
        "storage": storage,
        "workers": count,
        "trials": rounds * count,
        "share_of_ideal": round(seconds / cycle(log), 4),
        "whole": round(rounds * seconds / elapsed, 4),
        "cpu_s_per_trial": round((sum(after) - sum(before)) / (rounds * count), 4),
        "cpu_s_to_start": round(sum(before) / count, 2),
        "mebibytes": round(sum(memory) / count),
        "load_before": round(load, 1),
    }
    print(row, file=sys.stderr, flush=True)
    return row


def cycle(log: Path) -> float:
    """Mean seconds from the beginning of an evaluation to that of the next one of the same worker."""
    begun: dict[str, list[float]] = {}
    for line in log.read_text(encoding="ascii").splitlines():
        _, what, process, moment = line.split()
        if what == "begin":
            begun.setdefault(process, []).append(float(moment))
    spans = [(times[-1] - times[0], len(times) - 1) for times in begun.values()]
    return sum(span for span, _ in spans) / sum(number for _, number in spans)


def processor_seconds(process: int) -> float:
    """Of a process so far; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def mebibytes(process: int) -> float:
    """Memory of a process that it does not share; 0 if it has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) / 1024


if __name__ == "__main__":
    main()
