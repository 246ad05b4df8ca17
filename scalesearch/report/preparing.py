"""How far the preparation of images is: a bar, or lines of a log."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import RenderableType
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from scalesearch.report.views.table import duration
from scalesearch.search.events import Preparing

LINE_SECONDS = 30.0
"""How often a log gets a line."""


class Preparation:
    """The preparation of images from its first event on."""

    def __init__(self, first: Preparing, clock: Callable[[], float]) -> None:
        self._first, self._now, self._clock, self._started = first, first, clock, clock()
        self._printed: tuple[int, float] | None = None  # resolution and time of the last line
        self._bar = Bar(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
        self._task = self._bar.add_task("", total=first.total, left="")

    def update(self, event: Preparing) -> None:
        """Takes over how far it is."""
        self._now = event

    @property
    def is_done(self) -> bool:
        """Whether all images are prepared."""
        return self._now.done >= self._now.total

    def line(self) -> str | None:
        """A line of a log: for each resolution, now and then, and at the end; else None."""
        now = self._clock()
        if self.is_done:
            return f"{self._now.total:,} images are prepared, after {duration(now - self._started)}"
        if self._printed and self._printed[0] == self._now.resolution and now - self._printed[1] < LINE_SECONDS:
            return None
        self._printed = (self._now.resolution, now)
        return f"{self._text()}; {self._left()}"

    def render(self) -> RenderableType:
        """The bar."""
        self._bar.update(self._task, description=self._text(), completed=self._now.done, left=self._left())
        return self._bar

    def _text(self) -> str:
        return f"preparing images at {self._now.resolution} px: {self._now.done:,} of {self._now.total:,}"

    def _left(self) -> str:
        """By the pace since the first event."""
        gained = self._now.done - self._first.done
        if not gained:
            return "time left not known yet"
        seconds = (self._clock() - self._started) * (self._now.total - self._now.done) / gained
        return f"{duration(seconds)} left"
