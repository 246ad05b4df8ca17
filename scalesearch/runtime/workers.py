"""A run folder that is one process's own, and the further processes that train beside it."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scalesearch.errors import InputError
from scalesearch.runtime import interrupts
from scalesearch.runtime.cores import usable_cores, use_cores

STOPPING = "scalesearch: stopping when the epoch or compilation at hand ends"
_POLL_SECONDS = 0.1


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """The run folder, made and writable, with no other `run` in it; none is left where nothing came of it."""
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        lock = (folder / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another `scalesearch run` is at work there") from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # others may use the folder, or have removed it
                if made and [path.name for path in folder.iterdir()] == [".lock"]:
                    (folder / ".lock").unlink()
                    folder.rmdir()


@contextlib.contextmanager
def helpers(url: str, name: str, workers: int, deadline: float) -> Iterator[None]:
    """`workers` − 1 further processes that join the study, each with its part of the cores, this one included."""
    if workers == 1:
        yield
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / workers:.3f}")  # of a GPU, which they share
    cores = usable_cores()
    parts = [cores[place::workers] or [cores[place % len(cores)]] for place in range(workers)]
    left = deadline - time.monotonic()
    limit = ["--time", f"{max(left, 1):.0f}s"] if left < math.inf else []
    command = [sys.executable, "-m", "scalesearch", "worker", "--storage", url, "--study-name", name, *limit, "--cores"]
    others: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
    use_cores(parts[0])
    with contextlib.ExitStack() as files:
        try:
            for part in parts[1:]:
                told: IO[bytes] = files.enter_context(tempfile.TemporaryFile())
                arguments = [*command, ",".join(map(str, part))]
                nothing = subprocess.DEVNULL
                # In a session of its own: an interrupt reaches it once, from here.
                helper = subprocess.Popen(arguments, stdin=nothing, stdout=nothing, stderr=told, start_new_session=True)
                others.append((helper, told))
            yield
            for helper, told in others:
                while helper.poll() is None:
                    time.sleep(_POLL_SECONDS)
                    interrupts.check()
                if helper.returncode:
                    _tell_of(helper, told)
        finally:
            use_cores(cores)  # a search that follows shares them out anew
            for helper, _ in others:
                helper.terminate()
            for helper, _ in others:
                helper.wait()


def _tell_of(helper: subprocess.Popen[bytes], told: IO[bytes]) -> None:
    told.seek(0)
    last = told.read().decode(errors="replace").strip().rpartition("\n")[2]
    sys.stderr.write(f"scalesearch: a worker ended early with exit code {helper.returncode}: {last}\n")
