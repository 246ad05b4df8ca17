"""Workers and faults at random: what is lost, what is trained twice, and whether the result is that of a quiet run.

    chaos.py [--seconds 600] [--workers 8] [--seed 0] [--on postgresql|sqlite] [--quick] [--output FILE.jsonl]

Eight processes train 204 planned networks on a planted surface; a trial sleeps in the place of a training. Every few
seconds one fault happens: a worker is killed, stopped and continued after longer than the grace period, or preempted,
its clock jumps two hours (libfaketime, if it is installed; of one worker the monotonic clock, too); the server
restarts, all its connections are cut, its disk is full (a small tmpfs, if one can be mounted); on SQLite another
program locks the file. At the end the records and tables must be those of an undisturbed run. Prints a JSON line for
each storage; ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # workers and surface are the tests'

import pandas as pd

from scalesearch.analysis.tables import candidates_table
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.trials import deaths_of
from scalesearch.study.sections import Study
from tests.chaos import OF_SQLITE, QUICK, Pace, Report, chaos, expected_records, of_server
from tests.planted import planted_study
from tests.postgresql import Server

# A stop lasts longer than the grace period now and then.
FULL = Pace(
    trial=10.0, beat=5.0, grace=20.0, between=5.0, away=(20.0, 60.0), stopped=(5.0, 40.0), locked=(75.0, 75.0), moved=1
)  # fmt: skip
DISK = "256m"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of `DISK` bytes at `folder`; None if this user may not mount one."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=False)
    try:
        yield folder if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def outcome(url: str, study: Study, report: Report) -> dict[str, Any]:
    """What came of it, as a JSON object."""
    optuna_study = studies.join_study(open_storage(url), study.name)
    records, expected = studies.records(optuna_study), expected_records(study)
    tables = [candidates_table(each, study.budget, study.metric) for each in (records, expected)]
    first, second = (table.drop(columns=["candidate"]).reset_index(drop=True) for table in tables)
    try:
        pd.testing.assert_frame_equal(first, second, check_exact=True)
        same = True
    except AssertionError:
        same = False
    trials = len(make_plan(study).distinct)
    return {
        "trials": trials,
        "stored": len(optuna_study.trials),
        "states": dict(studies.count_states(optuna_study)),
        "records_are_those_of_a_quiet_run": records == expected,
        "tables_are_those_of_a_quiet_run": same,
        "faults": dict(sorted(report.faults.items())),
        "trainings_begun": sum(report.begun.values()),
        "trainings_to_the_end": sum(report.ended.values()),
        "trained_to_the_end_twice": sum(count > 1 for count in report.ended.values()),
        "without_a_fault_of_their_workers": report.needlessly,
        "trained_again": round(report.again, 4),
        "deaths": sum(len(deaths_of(trial)) for trial in optuna_study.trials),
        "exit_codes_without_a_fault": report.unexplained,
        "seconds": round(report.seconds, 1),
    }


def publish(found: Mapping[str, Any], output: Path | None) -> None:
    """Prints what was found as a JSON line with the machine's cores and the date; appends it to `output`, too."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    line = json.dumps({**found, "cores": os.cpu_count(), "date": today})
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    if output is not None:
        with output.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def main() -> int:
    """Run it on each storage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on", choices=["postgresql", "sqlite"], help="one storage instead of both")
    parser.add_argument("--quick", action="store_true", help="twenty seconds, four workers, 28 trials")
    parser.add_argument("--output", type=Path, help="append the JSON lines to this file, too")
    arguments = parser.parse_args()
    pace, seconds, workers = FULL, arguments.seconds, arguments.workers
    design: dict[str, Any] = {"kind": "qmc", "size": 360}
    if arguments.quick:
        pace, seconds, workers, design = QUICK, 20.0, 4, {"degree": 6}
    study = planted_study(design=design, seeds=1)

    good = True
    for on in ("postgresql", "sqlite") if arguments.on is None else (arguments.on,):
        with (
            tempfile.TemporaryDirectory() as name,
            tempfile.TemporaryDirectory() as files,
            small_disk(Path(files)) as disk,
        ):
            options: dict[str, Any] = {"workers": workers, "seconds": seconds, "pace": pace, "seed": arguments.seed}
            if on == "sqlite":
                url = sqlite_url(Path(name))
                found = outcome(url, study, chaos(url, study, Path(name), OF_SQLITE, **options))
            else:
                server = Server(Path(files), "max_wal_size=64MB", "min_wal_size=32MB")
                server.start()
                try:
                    url = server.create_database()
                    found = outcome(url, study, chaos(url, study, Path(name), of_server(server, disk), **options))
                finally:
                    server.stop()
        lost = found["trials"] - found["states"]["complete"]
        good &= (
            found["records_are_those_of_a_quiet_run"]
            and found["tables_are_those_of_a_quiet_run"]
            and not lost
            and found["stored"] == found["trials"]
        )
        good &= not found["without_a_fault_of_their_workers"]
        good &= not found["exit_codes_without_a_fault"]
        settings = {"workers": workers, "seed": arguments.seed, "pace": dataclasses.asdict(pace)}
        publish({"storage": on, **settings, **found}, arguments.output)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
