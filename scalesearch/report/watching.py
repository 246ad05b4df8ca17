"""Shows a run again and again: in place on a terminal, in blocks in a pipe."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from scalesearch.analysis.outcome import Outcome
from scalesearch.errors import StorageError
from scalesearch.report.terminal import console, show_status
from scalesearch.search.queue.activity import Activity
from scalesearch.search.queue.patience import reason_of

Look = Callable[[], tuple[Outcome, Activity]]
"""What the records of a run say now, and what goes on in it."""


def watch_status(
    look: Look, seconds: float, out: Console | None = None, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Shows the status of a run until it is finished, or an interrupt ends it.

    A storage that is away is said to be, and looked for again.

    Args:
        look: looks at the run.
        seconds: between two looks.
        out: where to show it; standard output if None.
        sleep: waits so many seconds.

    Raises:
        StorageError: the storage fails at the first look.
    """
    out = out or console()
    text = ""
    with contextlib.suppress(KeyboardInterrupt):
        text, is_finished = _screen(look, out)
        with _drawing(out) as draw:
            draw(text)
            while not is_finished:
                sleep(seconds)
                try:
                    text, is_finished = _screen(look, out)
                    draw(text)
                except StorageError as error:
                    reason = reason_of(error.__cause__ or error)
                    draw(f"The storage is away, and looked for again: {reason}\nBefore that:\n\n{text}")
    if out.is_terminal:
        _print(out, text)


def _screen(look: Look, out: Console) -> tuple[str, bool]:
    """What the screen shows of the run now, and whether it is finished."""
    outcome, activity = look()
    # Not printed on `out` itself, where it would interrupt what is shown.
    colors: Any = out.color_system
    paper = Console(
        file=io.StringIO(), width=out.width, force_terminal=out.is_terminal, color_system=colors, highlight=False
    )
    with paper.capture() as capture:
        show_status(outcome, activity, paper)
    return capture.get(), activity.is_finished


@contextlib.contextmanager
def _drawing(out: Console) -> Iterator[Callable[[str], None]]:
    """What draws a text over the one before; in a pipe below it, unless it is the same."""
    if out.is_terminal:
        with Live(console=out, screen=True, auto_refresh=False) as live:
            yield lambda text: live.update(Text.from_ansi(text), refresh=True)
        return
    drawn = ""

    def draw(text: str) -> None:
        nonlocal drawn
        if text != drawn:
            _print(out, f"\n{text}" if drawn else text)
            drawn = text

    yield draw


def _print(out: Console, text: str) -> None:
    out.print(Text.from_ansi(text), end="", soft_wrap=True)  # it is wrapped already
    out.file.flush()
