"""Interrupts that wait for a safe place: between epochs, between trials, never inside a library's own work.

An exception raised by a signal handler can land anywhere: in a callback that swallows it, or in the middle of a
transaction. So a search only notes the signal, and asks for it where it can stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = threading.Event()  # signals are the process's, and so is this


@contextlib.contextmanager
def deferred(told: str) -> Iterator[None]:
    """While this lasts, SIGINT and SIGTERM only have effect where `check` is called; `told` goes to stderr at once.

    In the main thread only.
    """

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not _asked.is_set():
            _asked.set()
            os.write(2, f"{told}\n".encode())  # not `sys.stderr`, which may be in the middle of a write

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as in a background job
            signal.signal(number, note)
    try:
        yield
        check()
    finally:
        _asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def check() -> None:
    """Raises `KeyboardInterrupt` where a deferred signal has come."""
    if _asked.is_set():
        raise KeyboardInterrupt
