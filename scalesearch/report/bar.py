"""A bar on standard error for work on many images; in a pipe, nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scalesearch.report.console import Output


class ImagesBar:
    """A context manager; call it with how many of `total` images are done. Draws nothing unless it is `shown`."""

    def __init__(self, label: str, total: int | None = None, *, shown: bool = True) -> None:
        console = Output(stderr=True)
        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # What is printed meanwhile goes to its own stream, which may be a file.
        hidden = not (shown and console.is_terminal)
        self._bar = Progress(*columns, console=console, transient=True, disable=hidden, redirect_stdout=False)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Draws the bar."""
        self._bar.update(self._task, completed=done, total=total)
