"""Commands that take turns of a few seconds on one machine, each with all its processes, the others stopped meanwhile.

A machine whose speed changes then changes it for all of them. Needs Linux (`/proc`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path


class Runner:
    """A command that runs in turns of `turn` seconds, with all its processes; `seconds` is the sum of its turns."""

    def __init__(self, command: list[str], turn: float, log: Path, **environment: str) -> None:
        self.command, self.turn, self.log, self.environment = command, turn, log, {**os.environ, **environment}
        self.seconds = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def take_turn(self) -> bool:
        """Runs for a turn, or to its end; whether it has more to do."""
        start = time.perf_counter()
        if self.process is None:
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        else:
            _send(family(self.process.pid), signal.SIGCONT)
        try:
            code = self.process.wait(self.turn)
        except subprocess.TimeoutExpired:
            self.seconds += time.perf_counter() - start
            self.halt(signal.SIGSTOP)
            return True
        self.seconds += time.perf_counter() - start
        if code:
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise SystemExit(f"{' '.join(self.command)} ended with exit code {code}: {' '.join(last)}")
        return False

    def halt(self, number: signal.Signals) -> None:
        """Sends the signal to all processes of the command, those included that begin meanwhile."""
        reached: set[int] = set()
        while self.process is not None and (new := family(self.process.pid) - reached):
            _send(new, number)
            reached |= new


def family(pid: int) -> set[int]:
    """The process, if it runs, and all that descend from it, whatever their sessions."""
    children: dict[int, list[int]] = {}
    alive = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                alive.add(int(entry.parent.name))
                children.setdefault(int(parent), []).append(int(entry.parent.name))
    found, new = set(), {pid} & alive
    while new:
        found |= new
        new = {child for parent in new for child in children.get(parent, [])} - found
    return found


def _send(processes: set[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def by_turns(runners: list[Runner]) -> None:
    """Lets them take turns until the last has ended; if this fails, none is left behind."""
    try:
        going = list(runners)
        while going:
            going = [runner for runner in going if runner.take_turn()]
    finally:
        for runner in runners:
            if runner.process is not None:
                runner.halt(signal.SIGKILL)
                runner.process.wait()
