"""Worker processes: what they report, how they end, and that none outlives the process that watches it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scalesearch.runtime.workers import CannotStart, Workers

ROOT = Path(__file__).parents[2]
MODULE = "tests.runtime.echo_worker"
SECONDS = 30.0


def workers(*instructions: dict[str, Any]) -> Workers:
    return Workers(MODULE, instructions, [{"PYTHONPATH": str(ROOT), "VARIABLE": "set"}] * len(instructions))


def collect(running: Workers, enough: Callable[[list[Any], list[Any]], bool]) -> tuple[list[Any], list[Any]]:
    """Messages and ends until there are enough."""
    messages: list[Any] = []
    ends: list[Any] = []
    deadline = time.monotonic() + SECONDS
    while not enough(messages, ends):
        assert time.monotonic() < deadline, (messages, ends)
        messages += [each for each in running.messages(timeout=0.1) if each[1]]
        ends += running.ended()
    return messages, ends


def test_each_worker_gets_its_instruction_and_reports_under_its_index() -> None:
    with workers({"cores": [0]}, {"cores": [1]}) as running:
        messages, ends = collect(running, lambda messages, ends: len(ends) == 2)
    expected = [(index, {"cores": [index], "variable": "set"}) for index in (0, 1)]
    assert sorted(messages, key=lambda each: int(each[0])) == expected
    assert sorted(ends) == [(0, 0, "last words"), (1, 0, "last words")]
    assert running.alive == 0


def test_a_module_in_the_users_folder_does_not_replace_pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit('the user's')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with workers({}) as running:
        _, ends = collect(running, lambda messages, ends: bool(ends))
    assert ends == [(0, 0, "last words")]


def test_a_worker_that_dies_says_how_and_can_be_started_again() -> None:
    with workers({"signal": "SIGKILL"}) as running:
        _, ends = collect(running, lambda messages, ends: bool(ends))
        assert ends == [(0, -signal.SIGKILL, "killed: the system may lack memory")]
        running.start(0)
        _, again = collect(running, lambda messages, ends: bool(ends))
        assert again == ends


ABORTED = """F1128 21:23:23.869276   18140 env.cc:93] Check failed: pthread_create() failed.
*** Check failure stack trace: ***
    @     0x7ff6f2958ba3  PyObject_Vectorcall"""


@pytest.mark.parametrize(
    ("lines", "told"), [("last words", "MemoryError"), (ABORTED, "Check failed: pthread_create() failed.")]
)
def test_one_that_finds_too_little_memory_to_begin_is_not_started_again(lines: str, told: str) -> None:
    with (
        workers({"limit": 2**30, "lines": lines}) as running,
        pytest.raises(
            CannotStart, match=f"a worker cannot start: the system refuses memory .{re.escape(told)}.; raise"
        ),
    ):
        collect(running, lambda messages, ends: bool(ends))


def test_workers_are_asked_to_stop_when_the_context_ends() -> None:
    started = time.monotonic()
    with workers({"seconds": 3600}, {"seconds": 3600}) as running:
        collect(running, lambda messages, ends: len(messages) == 2)
        processes = list(running.process_ids.values())
        assert list(map(os.getsid, processes)) == processes  # a terminal's interrupt does not reach them as well
    assert time.monotonic() - started < SECONDS


WATCHER = f"""
import time
from scalesearch.runtime.workers import Workers
with Workers({MODULE!r}, [{{"seconds": 3600}}]) as running:
    while not running.messages(timeout=1):
        pass
    print(running.process_ids[0], flush=True)
    time.sleep(3600)
"""


def test_a_worker_stops_when_the_process_that_watches_it_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    watcher = subprocess.Popen([sys.executable, "-c", WATCHER], stdout=subprocess.PIPE, text=True, env=environment)
    with watcher:
        assert watcher.stdout is not None
        worker = int(watcher.stdout.readline())
        watcher.kill()
    deadline = time.monotonic() + SECONDS
    while _is_alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
