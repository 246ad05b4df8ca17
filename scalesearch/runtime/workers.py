"""Worker processes: each gets one JSON instruction, and reports JSON messages, one per line.

A worker's standard input stays open as long as the process that started it lives. A worker stops when its input ends,
so none outlives the process that watches it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from scalesearch.errors import ScalesearchError
from scalesearch.runtime import interrupts
from scalesearch.runtime.exhaustion import explained, is_exhausted, says_exhausted
from scalesearch.runtime.notes import is_note
from scalesearch.runtime.text import first_line

INTERRUPTED = 130
"""The exit code of a worker that was asked to stop."""

MAX_DEATHS = 3
"""A task whose workers died more often than this is given up."""

Message = Mapping[str, Any]

_KILLED = -9
_STACK = ("@ ", "*** ")  # lines in which a library shows its stack
_LOG_PREFIX = re.compile(r"[A-Z]\d{4} \d\d:\S+ +\d+ \S+:\d+\] ")  # of Google's libraries


class CannotStart(ScalesearchError):
    """A worker found too little memory to begin."""


class Workers:
    """Runs a Python module in worker processes and collects their messages. A context manager that ends them all."""

    def __init__(
        self, module: str, instructions: Sequence[Message], environments: Sequence[Mapping[str, str]] = ()
    ) -> None:
        """Starts one process for each of `instructions`, with that of `environments`, if any, added to this one's."""
        self._module, self._instructions = module, list(instructions)
        self._environments = [{**os.environ, **added} for added in environments or [{}] * len(self._instructions)]
        self._messages: queue.SimpleQueue[tuple[int, Message]] = queue.SimpleQueue()
        self._processes: dict[int, _Process] = {}

    def __enter__(self) -> Self:
        for index in range(len(self._instructions)):
            self.start(index)
        return self

    def __exit__(self, *_: object) -> None:
        """Asks every worker to stop, and waits. A second interrupt while waiting kills them."""
        try:
            for process in self._processes.values():
                process.stop()
            for process in self._processes.values():
                process.wait()
        finally:
            for process in self._processes.values():
                process.kill()

    def start(self, index: int) -> None:
        """Starts worker `index`, again if it has ended."""
        # A `random.py` in the user's folder must not take the place of Python's. In a checkout, which need not be
        # installed, the folder holds scalesearch.
        safe_path = [] if Path("scalesearch").is_dir() else ["-P"]
        self._processes[index] = _Process(
            [sys.executable, *safe_path, "-m", self._module],
            self._instructions[index],
            self._environments[index],
            lambda message: self._messages.put((index, message)),
        )

    def messages(self, timeout: float) -> list[tuple[int, Message]]:
        """What workers reported, each with its index; waits up to `timeout` seconds for the first one."""
        collected: list[tuple[int, Message]] = []
        with contextlib.suppress(queue.Empty):
            collected.append(self._messages.get(timeout=timeout))
            while True:
                collected.append(self._messages.get_nowait())
        return collected

    def ended(self) -> list[tuple[int, int, str]]:
        """Workers that ended since the last call: index, exit code, and the line that tells why, as far as it is known.

        Raises `CannotStart` for one that found too little memory to begin: the next would find no more.
        """
        ends = []
        for index, process in [*self._processes.items()]:
            if process.has_ended():
                ends.append((index, process.exit_code, process.last_words()))
                if process.exit_code and not process.has_reported and says_exhausted(process.last_words()):
                    raise CannotStart(
                        f"a worker cannot start: the system refuses memory ({process.last_words()}); raise the limit "
                        "(`ulimit -v`, a container's), close other programs, or run fewer workers"
                    )
                process.kill()
                del self._processes[index]
        return ends

    @property
    def process_ids(self) -> dict[int, int]:
        """The process of each worker that has not ended."""
        return {index: process.process_id for index, process in self._processes.items()}

    @property
    def alive(self) -> int:
        """How many workers have not ended."""
        return len(self._processes)


class _Process:
    """One worker process, and the thread that reads its messages."""

    def __init__(
        self,
        command: Sequence[str],
        instruction: Message,
        environment: Mapping[str, str],
        on_message: Callable[[Message], None],
    ) -> None:
        self.has_reported = False
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `kill`
        # In a session of its own: a terminal's interrupt reaches it once, from here.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(environment),
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: its exit code says why
            self._process.stdin.write(json.dumps(instruction).encode() + b"\n")
            self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, args=(on_message,), daemon=True)
        self._reader.start()

    def _read(self, on_message: Callable[[Message], None]) -> None:
        """Passes on messages until the process ends; then an empty one."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # a library's own output, or half a line of a worker that died
                message = json.loads(line)
                if isinstance(message, dict):
                    self.has_reported = True
                    on_message(message)
        on_message({})  # whoever waits for a message sees at once that the process has ended

    @property
    def process_id(self) -> int:
        """The operating system's number of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int:
        """The exit code; below 0 for a signal."""
        return self._process.returncode

    def has_ended(self) -> bool:
        """Whether the process has ended and all its messages are read."""
        return self._process.poll() is not None and not self._reader.is_alive()

    def last_words(self) -> str:
        """The line of its standard error that tells why it ended: of a library that aborts, not the last one."""
        if self.exit_code == _KILLED:  # which no process can comment on
            return "killed: the system may lack memory"
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        lines = [_LOG_PREFIX.sub("", line.strip()) for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith(_STACK)] or [""]
        return next((line for line in lines if says_exhausted(line)), lines[-1])

    def stop(self) -> None:
        """Asks it to stop at the next safe place."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Waits until it has ended."""
        self._process.wait()

    def kill(self) -> None:
        """Ends it at once, if it still runs, and releases what it held."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def instruction() -> Message:
    """In a worker: its instruction. From now on the worker is asked to stop when the process that started it ends."""
    line = sys.stdin.readline()
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    document: Message = json.loads(line)
    return document


def report(message: Message) -> None:
    """In a worker: reports `message` to the process that started it."""
    with contextlib.suppress(BrokenPipeError):  # that process has ended, and this one is about to
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def carry_out(work: Callable[..., object]) -> int:
    """In a worker: calls `work` with the instruction, and reports its notes, logs and errors; the exit code.

    An interrupt waits for a safe place (`runtime.interrupts`).
    """
    interrupts.immediate()
    arguments = instruction()
    reported: set[str] = set()

    def report_note(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in reported:
            reported.add(text)
            report({"note" if is_note(category) else "log": text})

    class Reports(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report({"log": record.getMessage()})

    warnings.showwarning = report_note
    warnings.filterwarnings("always", module="scalesearch")
    log = logging.getLogger("scalesearch")
    log.addHandler(Reports())
    log.propagate = False  # a library may have given the root logger a handler, which would write to standard error
    log.setLevel(logging.INFO)
    try:
        with interrupts.deferred(""):
            work(**arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ScalesearchError as error:
        report({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except Exception as error:  # told to the watching process, which raises it
        text = explained(error) if is_exhausted(error) else f"unexpected {type(error).__name__}: {first_line(error)}"
        report({"error": text, "exit_code": 1, "traceback": traceback.format_exc()})
        return 1
    return 0


def _stop_at_end_of_input() -> None:
    while sys.stdin.readline():
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)  # in the middle of something long: breaks it off


_GRACE_SECONDS = 60.0
