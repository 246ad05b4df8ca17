"""Workers, servers and files that fail at random, again and again: is every trial complete exactly once in the end?

    chaos.py [--storage postgresql|sqlite] [--quick] [--seed N] [--output FILE.json]

Eight worker processes evaluate 200 planned trials of a known surface; an evaluation only takes its time. For ten
minutes (`--quick`: four workers, 24 trials, half a minute) a fault comes every few seconds, of a kind that is drawn
with a fixed seed:

- kill: SIGKILL of a worker. Whatever ends, another is started in its place.
- terminate: SIGTERM, as a cluster preempts.
- stop: SIGSTOP, and SIGCONT after longer than the grace period: its trial is given to another worker meanwhile.
- clock: the clock of a worker jumps by two hours, or back (libfaketime); of a second one the monotonic clock, too.
- restart: the server ends at once (immediate mode), and is away for 20 to 60 s.
- cut: the server ends all connections.
- full: the disk of the database (a small tmpfs as a tablespace) is full for a while.
- locked: another program locks SQLite's file for 75 s.

Prints JSON: faults, what was trained more than once, and whether records and tables are those of a quiet run, bit for
bit. Exits with 1 if they are not. Needs PostgreSQL on this machine; filling a disk needs root.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # what hits the workers is the tests'
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], *filter(None, [os.environ.get("PYTHONPATH")])])

from scalesearch.search.queue.storage import sqlite_url
from tests.chaos import QUICK, Setting, is_sound, run
from tests.postgresql import PostgresqlServer

WEIGHTS = {
    "kill": 5, "terminate": 4, "stop": 2, "clock": 2, "cut": 4, "restart": 1, "full": 1.5, "locked": 1,
}  # fmt: skip
FULL = Setting(
    workers=8, trials=200, trial=12.0, seconds=600.0, every=5.0, beat=15.0, grace=60.0, stopped=(65.0, 90.0),
    down=(20.0, 60.0), full=(10.0, 30.0), locked=(75.0, 75.0), weights=WEIGHTS, limit=2400.0, monotonic_jumps=True,
)  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="also write the JSON there")
    arguments = parser.parse_args()
    setting = dataclasses.replace(QUICK if arguments.quick else FULL, seed=arguments.seed)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="scalesearch-chaos-") as name:
        result: dict[str, Any] = disturbed(setting, Path(name), arguments.storage)
    machine = {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "cores": os.cpu_count()}
    loads = {"load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1)}
    text = json.dumps({"storage": arguments.storage, **machine, **loads, **_shown(setting), **result}, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    if not is_sound(result):
        raise SystemExit(1)


def disturbed(setting: Setting, folder: Path, storage: str) -> dict[str, Any]:
    """What `tests.chaos.run` gives, on a storage of its own."""
    if storage == "postgresql":
        with PostgresqlServer(small_disk=True) as server:
            return run(setting, server.create_database(), folder, server)
    (folder / "run").mkdir()
    return run(setting, sqlite_url(folder / "run"), folder)


def _shown(setting: Setting) -> dict[str, Any]:
    values = dataclasses.asdict(setting)
    return {"setting": {key: values[key] for key in ("workers", "trials", "trial", "seconds", "beat", "grace", "seed")}}


if __name__ == "__main__":
    main()
