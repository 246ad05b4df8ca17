"""The default study, disturbed: kills, preemptions, a full disk and a server that restarts change no coefficient.

    disturbed_search.py [--study NAME|FILE] [--seed 0] [--every 15] [--on sqlite|postgresql] [--output FILE.jsonl]

Runs `scalesearch run` once undisturbed. Then, on each storage, it runs it in another folder on a small file system, and
every few seconds does one thing at random: kills `run` (SIGKILL), its worker, or both at once, asks it to stop
(SIGTERM), and fills the file system for a while or restarts the server. `run` is started again whenever it has ended
early. The rule must be the same bits, its provenance aside, and so must every training. Prints a JSON line for each
storage; ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the server is the tests'

from chaos import publish, small_disk

from scalesearch.study.load import DEFAULT_STUDY
from tests.postgresql import Server

AWAY = (5.0, 20.0)
"""For how many seconds a disk is full, or a server is away."""

COMPARED = ("phi", "depth_share", "width_share", "macs_ratio", "seed", "train_loss", "val_loss", "val_accuracy")
"""Columns of trials.csv that say what was trained, and with what result."""

WITHOUT_ALL, MOST_STARTS = 5, 60
"""The exit code of a `run` that has given up a trial, and how often `run` is started at most."""

EARLY = {130, -signal.SIGKILL, -signal.SIGTERM}
"""Exit codes of a `run` that was killed or asked to stop."""


def rule_in(folder: Path) -> dict[str, Any]:
    """The rule of a run folder without its provenance, and the metrics of every training in trials.csv."""
    rule = json.loads((folder / "coefficients.json").read_text(encoding="utf-8"))
    del rule["provenance"]
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(tuple(row[name] for name in COMPARED) for row in csv.DictReader(file))
    return {"rule": rule, "trainings": rows}


def differences_between(undisturbed: dict[str, Any], disturbed: dict[str, Any]) -> list[str]:
    """A line for each key of the rule, and for each training, that is not in both."""
    keys = undisturbed["rule"].keys() | disturbed["rule"].keys()
    rules = [
        f"{key}: {undisturbed['rule'].get(key)} and {disturbed['rule'].get(key)}"
        for key in sorted(keys)
        if undisturbed["rule"].get(key) != disturbed["rule"].get(key)
    ]
    counts = [collections.Counter(found["trainings"]) for found in (undisturbed, disturbed)]
    gone, new = counts[0] - counts[1], counts[1] - counts[0]
    return rules + [f"- {row}" for row in sorted(gone.elements())] + [f"+ {row}" for row in sorted(new.elements())]


def start(study: str, folder: Path, storage: str | None) -> subprocess.Popen[bytes]:
    """Starts `scalesearch run`."""
    environment = {**os.environ, **({} if storage is None else {"SCALESEARCH_STORAGE": storage})}
    command = [sys.executable, "-m", "scalesearch", "run", "--study", study, "--out", str(folder), "--quiet"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def disturb(
    study: str, folder: Path, server: Server | None, url: str | None, every: float, seed: int, wanted: int
) -> dict[str, Any]:
    """Runs `study` until it ends with `wanted` while things happen; what happened, and exit codes without a cause."""
    chance, happened, unexplained = random.Random(seed), collections.Counter[str](), list[str]()
    kinds = ["kill run", "kill worker", "kill both", "stop run", "disk full" if server is None else "server restarts"]
    run, started, starts = start(study, folder, url), time.monotonic(), 1
    bag: list[str] = []
    while True:
        end = time.monotonic() + every * chance.uniform(0.5, 1.5)
        while run.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        if run.poll() is None:
            bag = bag or chance.sample(kinds, len(kinds))
            kind = bag.pop()
            happened[kind] += 1
            _do(kind, run, folder, server, chance.uniform(*AWAY))
            continue
        if run.returncode == wanted:
            break
        if run.returncode == WITHOUT_ALL and starts < MOST_STARTS:  # a trial was given up: it is tried again
            run, starts = start(study, folder, url), starts + 1
            continue
        if run.returncode not in EARLY:
            assert run.stderr is not None
            unexplained.append(f"{run.returncode}: {run.stderr.read().decode().strip()}")
        run, starts = start(study, folder, url), starts + 1
    return {
        "happened": dict(sorted(happened.items())),
        "starts": starts,
        "seconds": round(time.monotonic() - started, 1),
        "exit_codes_without_a_fault": unexplained,
    }


def _do(kind: str, run: subprocess.Popen[bytes], folder: Path, server: Server | None, seconds: float) -> None:
    if kind == "stop run":
        run.send_signal(signal.SIGTERM)
    with contextlib.suppress(OSError):  # a process has ended meanwhile
        workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text(encoding="utf-8").split()
        for process in [run.pid] * (kind in ("kill run", "kill both")) + [*map(int, workers)] * kind.endswith(
            ("worker", "both")
        ):
            os.kill(process, signal.SIGKILL)
    if kind == "disk full":
        filler = folder.parent / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(2**16))
        time.sleep(seconds)
        filler.unlink()
    if kind == "server restarts" and server is not None:
        server.stop()
        time.sleep(seconds)
        server.start()


def main() -> int:
    """Run it undisturbed, then disturbed on each storage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default=DEFAULT_STUDY)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=15.0)
    parser.add_argument("--on", choices=["sqlite", "postgresql"], help="one storage instead of both")
    parser.add_argument("--quick", action="store_true", help="a pause of five seconds, and SQLite only")
    parser.add_argument("--output", type=Path, help="append the JSON lines to this file, too")
    arguments = parser.parse_args()
    every, only = (5.0, "sqlite") if arguments.quick else (arguments.every, arguments.on)
    good = True
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as small, small_disk(Path(small)) as disk:
        quiet = Path(name) / "quiet"
        before = time.monotonic()
        process = start(arguments.study, quiet, None)
        errors = process.communicate()[1].decode()
        if process.returncode not in (0, 5):
            sys.exit(f"the undisturbed run failed: {errors}")
        undisturbed = round(time.monotonic() - before, 1)
        for on in ("sqlite", "postgresql") if only is None else (only,):
            server, url = None, None
            if on == "postgresql":
                files = Path(name) / "server"
                files.mkdir()
                Path(name).chmod(0o755)
                server = Server(files)
                server.start()
                url = server.create_database()
            folder = (disk or Path(name)) / on
            try:
                found = disturb(arguments.study, folder, server, url, every, arguments.seed, process.returncode)
            finally:
                if server is not None:
                    server.stop()
            differences = differences_between(rule_in(quiet), rule_in(folder))
            good &= not differences and not found["exit_codes_without_a_fault"]
            settings = {"study": arguments.study, "storage": on, "seed": arguments.seed, "small_disk": disk is not None}
            found |= {"same_bits": not differences, "differences": differences, "undisturbed_seconds": undisturbed}
            publish({**settings, **found}, arguments.output)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
