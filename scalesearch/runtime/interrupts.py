"""Interrupts that wait for a safe place: between epochs, between trials, never inside a library's own work.

An exception raised by a signal handler can land anywhere: in a callback that swallows it, or in the middle of a
transaction. So a search only notes the signal, and asks for it where it can stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Several signals at once, as `timeout` and a terminal send them, are one.
PATIENCE_SECONDS = 2.0
_asked = threading.Event()  # signals are the process's, and so is this


def immediate() -> None:
    """From now on SIGINT and SIGTERM raise `KeyboardInterrupt` where they land, several at once only one."""
    _take(_interrupt)


@contextlib.contextmanager
def deferred(told: str) -> Iterator[None]:
    """While this lasts, SIGINT and SIGTERM only have effect where `check` is called; `told` goes to stderr at once.

    One that comes `PATIENCE_SECONDS` after the first raises `KeyboardInterrupt` where it lands: for work that
    hangs. After an interruption signals have no effect for as long, so that none breaks into what ends the process. In
    the main thread only.
    """

    def note() -> None:
        _asked.set()
        with contextlib.suppress(OSError):  # the reader may have gone by the same signal
            os.write(2, f"{told}\n".encode())  # not `sys.stderr`, which may be in the middle of a write

    taken = _take(note)
    try:
        yield
        check()
    except BrokenPipeError:
        check()  # what was written to went away by the same signal
        raise
    finally:
        if _asked.is_set():
            _take(_interrupt, time.monotonic())
        else:
            for number, handler in taken.items():
                signal.signal(number, handler)
        _asked.clear()


def check() -> None:
    """Raises `KeyboardInterrupt` where a deferred signal has come."""
    if _asked.is_set():
        raise KeyboardInterrupt


def _interrupt() -> None:
    raise KeyboardInterrupt


def _take(on_first: Callable[[], None], first: float | None = None) -> dict[signal.Signals, Handler]:
    """The handlers before: the first signal calls `on_first`, those soon after it nothing, later ones interrupt.

    `first`: when the first came, if it has.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        del number, frame
        if first is None:
            first = time.monotonic()
            on_first()
        elif time.monotonic() - first >= PATIENCE_SECONDS:
            raise KeyboardInterrupt

    taken: dict[signal.Signals, Handler] = {
        number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    for number in taken:  # an ignored one stays so, as in a background job
        signal.signal(number, handle)
    return taken
