"""Interrupts that wait for a safe place: between epochs or trials, never inside the work of a library.

An exception raised by a signal handler can land anywhere: in a callback that swallows it, or in the middle of a
transaction. So a search only notes the signal, and calls `check` where it can stop.

Only the main thread can handle signals: in any other thread `immediate` and `deferred` change nothing.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

# A terminal that is closed sends SIGHUP. Windows has none.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
PATIENCE_SECONDS = 2.0
"""Signals that come together, as `timeout` and a terminal send them, count as one."""


class _Requests:
    """The requests to stop that this process got. Signals belong to the process, and so does this."""

    def __init__(self) -> None:
        self.pending = threading.Event()
        self.latest = -math.inf  # time.monotonic() of the one that counted

    def is_new(self, patience: float) -> bool:
        return time.monotonic() - self.latest >= patience


_requests = _Requests()


def immediate(patience: float = PATIENCE_SECONDS) -> None:
    """From now on signals raise `KeyboardInterrupt` where they land; several within `patience` seconds count as one."""

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if _requests.is_new(patience):
            _requests.latest = time.monotonic()
            raise KeyboardInterrupt

    _install(handle)


@contextlib.contextmanager
def deferred(announcement: str, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Within the context a signal writes `announcement` to stderr and takes effect at the next `check`, or at the end.

    One that comes `patience` seconds after the first raises `KeyboardInterrupt` where it lands: for work that hangs.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not _requests.pending.is_set():
            request()
            with contextlib.suppress(OSError):  # the same signal may have ended the reader
                os.write(2, f"{announcement}\n".encode())  # not `sys.stderr`, which may be in the middle of a write
        elif _requests.is_new(patience):
            raise KeyboardInterrupt

    previous = _install(handle)
    try:
        yield
        check()
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.errno == errno.EIO:
            check()  # the same signal ended the reader of our output, or told that our terminal is closed
        raise
    finally:
        if _requests.pending.is_set():
            _requests.latest = time.monotonic()  # so `immediate` lets none interrupt the process as it ends
        _requests.pending.clear()
        for number, handler in previous.items():
            signal.signal(number, handler)


def request() -> None:
    """Ask the work at hand to stop at its next `check`."""
    _requests.latest = time.monotonic()
    _requests.pending.set()


def is_requested() -> bool:
    """Whether the next `check` raises."""
    return _requests.pending.is_set()


def check() -> None:
    """Raises `KeyboardInterrupt` if a deferred signal, or `request`, asks for it."""
    if _requests.pending.is_set():
        raise KeyboardInterrupt


def _install(handle: Callable[[int, FrameType | None], None]) -> dict[signal.Signals, Handler]:
    """Install `handle`; returns the previous handlers. An ignored signal stays so, as in a background job."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    previous: dict[signal.Signals, Handler] = {
        number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    for number in previous:
        signal.signal(number, handle)
    return previous
