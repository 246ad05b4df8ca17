"""Progress of a search in a terminal or a notebook (bar, time left, leaders) or in a pipe (one line per trial)."""

from __future__ import annotations

import io
import math
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from scalesearch.report.console import Output
from scalesearch.report.layout import fit, render
from scalesearch.report.preparing import Preparation
from scalesearch.report.views.results import leaders
from scalesearch.report.views.table import Table, duration, network, trial_result
from scalesearch.results.records import FAILED, PRUNED, TrialRecord, merged_records
from scalesearch.runtime.text import plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.search.events import EpochEnded, Event, Preparing, SearchStarted, TrialsEnded, Waiting

LEADERS = 5
_REFRESHES = 4  # per second
_CELL_WIDTH = 100
_PREFORMATTED = '<pre style="line-height: normal; font-family: monospace">{code}</pre>'
PREDICTED_TRIALS = 2
"""The prediction counts as much as this many trials: the first ones include start-up, and others are under way."""


class Progress:
    """Draws the events of a search on standard error. A context manager; call it with each event.

    On a terminal or in a notebook a live display; otherwise one line for each trial that ends.

    Args:
        console: where to draw; standard error if None.
        clock: seconds that rise steadily.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Output(stderr=True, highlight=False)
        self._clock = clock
        self._search: _Search | None = None
        self._preparation: Preparation | None = None
        self._live = live_display(self._console, clock)

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
            case SearchStarted():
                self._search = _Search(event, self._clock)
            case Preparing():
                self._prepare(event)
            case str():
                self._print(event)
            case TrialsEnded(records=records) if self._search is not None:
                self._search.end_trials(event)
                if self._live is None:
                    for record in records:
                        self._print(self._search.line(record))
            case EpochEnded() if self._search is not None:
                self._search.waiting = 0
                self._search.fractions[event.worker] = event.done
            case Waiting() if self._search is not None:
                self._search.waiting = event.running
            case _:
                pass
        if self._live is not None and (self._search is not None or self._preparation is not None):
            self._live.start()
            self._live.update(self.picture())

    def picture(self) -> RenderableType:
        """The bars, the leaders, and how many trials were pruned or failed."""
        preparing = [] if self._preparation is None else [self._preparation.render()]
        searching = [] if self._search is None else [self._search.render(self._console.width)]
        return Group(*preparing, *searching)

    @property
    def seconds_left(self) -> float | None:
        """Predicted time until the searches end; None while it is not known."""
        return None if self._search is None else self._search.seconds_left()

    def _prepare(self, event: Preparing) -> None:
        """Draws how far images are prepared; off a terminal in lines."""
        if self._preparation is None:
            self._preparation = Preparation(event, self._clock)
        self._preparation.update(event)
        if self._live is None and (line := self._preparation.line()):
            self._print(line)
        if self._preparation.is_done:
            self._preparation = None

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)


def live_display(console: Console, clock: Callable[[], float]) -> Live | Cell | None:
    """What shows a picture that changes, in a notebook or on a terminal; None where neither is."""
    if console.is_jupyter:
        return Cell(clock)
    return Live(console=console, refresh_per_second=_REFRESHES, transient=True) if console.is_terminal else None


class Cell:
    """A picture in the output of a notebook's cell that is replaced by the next one. Needs no widgets."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._handle: Any = None
        self._picture: RenderableType = ""
        self._drawn = -math.inf

    def start(self) -> None:
        """Shows an empty picture, once."""
        if self._handle is None:
            from IPython.display import display

            self._handle = display(_as_html(""), display_id=True)  # type: ignore[no-untyped-call]  # IPython has no types here

    def update(self, picture: RenderableType) -> None:
        """Shows `picture`, unless another was shown just before."""
        self._picture = picture
        if self._clock() - self._drawn >= 1 / _REFRESHES:
            self.stop()

    def stop(self) -> None:
        """Shows the last picture; it stays in the notebook."""
        if self._handle is not None:
            self._drawn = self._clock()
            self._handle.update(_as_html(self._picture))


def _as_html(picture: RenderableType) -> Any:
    from IPython.display import HTML

    console = Console(record=True, file=io.StringIO(), width=_CELL_WIDTH, force_jupyter=False, highlight=False)
    console.print(picture)
    page = console.export_html(inline_styles=True, code_format=_PREFORMATTED)
    return HTML(page)  # type: ignore[no-untyped-call]  # IPython has no types here


class _Search:
    """How far one search is."""

    def __init__(self, started: SearchStarted, clock: Callable[[], float]) -> None:
        self._started, self._clock = started, clock
        self._trials = started.trials
        self._merged: dict[ArchitectureSpec, TrialRecord] = {}  # one for each candidate
        self._ended = Counter[str]()  # by status
        self._lines_printed = 0
        self.fractions: dict[int, float] = {}
        """Of each worker's current trial, the fraction that is trained."""
        self.waiting = 0
        """Trials that others hold while nothing is left to start here."""
        for record in started.records:
            self._add(record)
        self._resumed_at, self._started_at = self._done, clock()
        self._bar = Bar(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
        self._task = self._bar.add_task("", total=started.trials, left="")
        self._leaders = self._best()

    def end_trials(self, event: TrialsEnded) -> None:
        """Counts trials that ended."""
        self._lines_printed = self._done
        self._trials = event.trials
        for record in event.records:
            self._add(record)
        self._leaders = self._best()

    def _add(self, record: TrialRecord) -> None:
        spec = record.candidate.spec
        self._ended[record.status] += 1
        earlier = [self._merged[spec]] if spec in self._merged else []
        self._merged[spec] = merged_records([*earlier, record])[0]

    @property
    def _done(self) -> int:
        return self._ended.total()

    @property
    def _done_with_fractions(self) -> float:
        return min(self._done + sum(self.fractions.values()), float(self._trials))

    def seconds_left(self) -> float | None:
        """By the pace since the start (all candidates cost the same) and by what was predicted."""
        done = self._done_with_fractions
        gained, left = done - self._resumed_at, max(0.0, self._trials - done)
        seconds = self._clock() - self._started_at
        if self._started.predicted_seconds is not None:
            left_at_start = max(1, self._started.trials - self._resumed_at)
            seconds += PREDICTED_TRIALS * self._started.predicted_seconds / left_at_start
            gained += PREDICTED_TRIALS
        return left * seconds / gained + self._started.later_seconds if gained > 0 else None

    def _left(self) -> str:
        seconds = self.seconds_left()
        return "time left not known yet" if seconds is None else f"{duration(seconds)} left"

    def line(self, record: TrialRecord) -> str:
        """A trial that ended, as one line of a log."""
        self._lines_printed += 1
        place = f"{self._started.label}[{self._lines_printed}/{self._trials}]"
        result = trial_result(record, self._started.study.metric, self._started.metric)
        name = f"{'baseline ' if record.candidate.is_baseline else ''}{network(record.candidate.spec)}"
        return f"{place} {name}: {result}; {self._left()}"

    def render(self, width: int) -> RenderableType:
        """The bar, the leaders, and how many trials were pruned or failed, for a terminal of `width` columns."""
        doing = f"trial {min(self._done + 1, self._trials)} of {self._trials}"
        if self.waiting:
            doing = f"waiting for {plural(self.waiting, 'trial')} elsewhere"
        self._bar.update(
            self._task,
            description=self._started.label + doing,
            total=self._trials,
            completed=self._done_with_fractions,
            left=self._left(),
        )
        notes = [f"{self._ended[status]} {status}" for status in (PRUNED, FAILED) if self._ended[status]]
        tables = [render(fit(self._leaders, width), width)] if self._leaders.rows else []
        return Group(self._bar, *tables, *notes)

    def _best(self) -> Table:
        """The best candidates so far."""
        return leaders(self._merged.values(), self._started.study.metric, self._started.metric, LEADERS)
