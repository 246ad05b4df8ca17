"""Progress of the training of one network: a bar with speed and time left, or a line an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from scalesearch.report.console import Output
from scalesearch.report.preparing import Preparation
from scalesearch.report.progress import live_display
from scalesearch.report.views.table import duration
from scalesearch.runtime.text import plural
from scalesearch.search.events import Preparing
from scalesearch.search.plan.timing import DEVICE
from scalesearch.trained.curves import EpochRow
from scalesearch.trained.events import EpochTrained, Event, PartTrained, TrainingPlanned, TrainingStarted


class TrainingProgress:
    """Draws the events of a training on standard error. A context manager; call it with each event.

    Args:
        console: where to draw; standard error if None.
        clock: seconds that rise steadily.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Output(stderr=True, highlight=False)
        self._clock = clock
        self._live = live_display(self._console, clock)
        self._preparation: Preparation | None = None
        self._planned: TrainingPlanned | None = None
        self._began, self._began_at = 0.0, clock()
        self._done, self._speed = 0.0, 0.0
        self._best: EpochRow | None = None
        self._last: EpochRow | None = None
        self._bar = Bar(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
        self._task = self._bar.add_task("", left="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Draws what `event` changes."""
        match event:
            case str():
                self._print(event)
            case Preparing():
                self._prepare(event)
            case TrainingPlanned():
                self._planned = event
                self._print(
                    f"{event.name}: {plural(event.epochs, 'epoch')} of {plural(event.images, 'image')}, "
                    f"about {duration(event.predicted_seconds)} on {DEVICE}"
                )
            case TrainingStarted():
                self._began = self._done = event.done
                self._began_at = self._clock()
                if event.done:
                    self._print(f"goes on after {event.done:.4g} epochs")
            case PartTrained():
                self._done, self._speed = event.done, event.images_per_second
            case EpochTrained():
                self._end_epoch(event)
        if self._live is not None and (self._planned is not None or self._preparation is not None):
            self._live.start()
            self._live.update(self.picture())

    def picture(self) -> RenderableType:
        """The bar, and the last and the best epoch."""
        if self._preparation is not None:
            return self._preparation.render()
        epochs = self._planned.epochs if self._planned is not None else 0
        doing = f"epoch {min(int(self._done) + 1, epochs)} of {epochs}" if self._done or self._last else "compiling"
        speed = f"{self._speed:,.0f} images/s, " if self._speed else ""
        self._bar.update(
            self._task, description=doing, total=epochs, completed=self._done, left=f"{speed}{self._left(epochs)}"
        )
        lines = [_line(row, name) for row, name in ((self._last, "last"), (self._best, "best")) if row is not None]
        return Group(self._bar, *lines)

    def _end_epoch(self, event: EpochTrained) -> None:
        row = event.row
        self._done, self._speed, self._last = float(row.epoch), row.images_per_second, row
        self._best = row if event.best else self._best
        if self._live is None:
            epochs = self._planned.epochs if self._planned is not None else row.epoch
            best = ", the best so far" if event.best else ""
            speed = f"{row.images_per_second:,.0f} images/s; {self._left(epochs)}"
            self._print(f"[{row.epoch}/{epochs}] {_values(row)}{best}; {speed}")

    def _left(self, epochs: int) -> str:
        """By the pace since the start."""
        gained = self._done - self._began
        if gained <= 0:
            return "time left not known yet"
        return f"{duration((self._clock() - self._began_at) * (epochs - self._done) / gained)} left"

    def _prepare(self, event: Preparing) -> None:
        if self._preparation is None:
            self._preparation = Preparation(event, self._clock)
        self._preparation.update(event)
        if self._live is None and (line := self._preparation.line()):
            self._print(line)
        if self._preparation.is_done:
            self._preparation = None

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)


def _line(row: EpochRow, name: str) -> str:
    return f"{name}: epoch {row.epoch}: {_values(row)}"


def _values(row: EpochRow) -> str:
    balanced = "" if row.val_balanced_accuracy is None else f", balanced {row.val_balanced_accuracy:.4f}"
    return f"loss {row.train_loss:.4f}, validation loss {row.val_loss:.4f}, accuracy {row.val_accuracy:.4f}{balanced}"
