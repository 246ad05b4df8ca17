"""Progress of a search on stderr: a bar with the time left and a live leaderboard, or a line a trial."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn

from scalesearch.report.layout import fit, render
from scalesearch.report.views.results import leaders
from scalesearch.report.views.table import duration, network, trial_result
from scalesearch.results.records import FAILED, PRUNED, TrialRecord, merged_records
from scalesearch.runtime.text import plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import Study

LEADERS = 5
_PREDICTED_TRIALS = 2


class SearchProgress:
    """Shows how far a search is, and what leads.

    On a terminal a live display; otherwise one line for each trial that ends. A context manager.
    """

    def __init__(
        self,
        study: Study,
        trials: int,
        predicted_seconds: float | None,
        records: Sequence[TrialRecord],
        label: str = "",
        later_seconds: float = 0.0,
        measured: str = "",
    ) -> None:
        """`label` tells this search from others of the study, which will take `later_seconds` after it.

        `measured` is what to call the metric where it is not the study's own.
        """
        self._measured = measured or study.metric
        self._study, self._trials, self._predicted = study, trials, predicted_seconds
        self._label, self._later = label, later_seconds
        self._merged: dict[ArchitectureSpec, TrialRecord] = {}  # one a candidate
        self._ended = Counter[str]()  # by status
        for record in records:
            self._add(record)
        self._begun, self._fraction = self._done, 0.0
        self._started = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), console=self._console
        )
        self._task = self._bar.add_task("", total=trials, left="")
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._leaders = self._leaderboard()
        self._update()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def epoch(self, part: float) -> None:
        """Another `part` of the trial at hand is done."""
        self._fraction += part
        self._update()

    def seen(self, records: Sequence[TrialRecord], trials: int) -> None:
        """Between trials: these `records` of any worker are new, of `trials` in all."""
        self._fraction, self._trials = 0.0, trials
        for record in records:
            self._add(record)
            if not self._console.is_terminal:
                self._line(record)
        if records:
            self._leaders = self._leaderboard()
        self._update()

    def waiting(self, running: int) -> None:
        """Nothing is left to start, but other workers, or ones that died, still hold `running` trials."""
        self._update(f"waiting for {plural(running, 'trial')} elsewhere")

    def _add(self, record: TrialRecord) -> None:
        spec = record.candidate.spec
        self._ended[record.status] += 1
        earlier = [self._merged[spec]] if spec in self._merged else []
        self._merged[spec] = merged_records([*earlier, record])[0]

    @property
    def _done(self) -> int:
        return self._ended.total()

    def seconds_left(self) -> float | None:
        """At the pace since the start (all candidates cost the same macs), and what was predicted.

        The prediction counts as much as `_PREDICTED_TRIALS` trials: the first ones say little, with start-up in them
        and others under way.
        """
        done = self._done + self._fraction
        gained, left = done - self._begun, max(0.0, self._trials - done)
        seconds = time.monotonic() - self._started
        if self._predicted is not None:
            seconds += _PREDICTED_TRIALS * self._predicted / self._trials
            gained += _PREDICTED_TRIALS
        return left * seconds / gained + self._later if gained > 0 else None

    def _left(self) -> str:
        seconds = self.seconds_left()
        return "time left not known yet" if seconds is None else f"{duration(seconds)} left"

    def _update(self, doing: str = "") -> None:
        done = self._done
        self._bar.update(
            self._task,
            description=self._label + (doing or f"trial {min(done + 1, self._trials)} of {self._trials}"),
            completed=done + self._fraction,
            left=self._left(),
        )
        self._live.update(Group(self._bar, *self._leaders))

    def _line(self, record: TrialRecord) -> None:
        result = trial_result(record, self._study.metric, self._measured)
        place = f"{self._label}[{self._done}/{self._trials}]"
        sys.stderr.write(f"{place} {network(record.candidate.spec)}: {result}; {self._left()}\n")
        sys.stderr.flush()

    def _leaderboard(self) -> list[RenderableType]:
        """The best candidates, and how many trials were pruned or failed; on a terminal."""
        if not self._console.is_terminal:
            return []
        table = leaders(self._merged.values(), self._study.metric, self._measured, LEADERS)
        notes = [f"{self._ended[status]} {status}" for status in (PRUNED, FAILED) if self._ended[status]]
        return [*([render(fit(table, self._console.width), self._console.width)] if table.rows else []), *notes]
