"""Progress of a search on stderr: a bar with the time left and a live leaderboard, or a line a trial."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn

from scalesearch.cli.display import duration, failure, multipliers, network, table
from scalesearch.config import StudyConfig
from scalesearch.records import FAILED, PRUNED, TrialRecord, merged_records

LEADERS = 5
_PREDICTED_TRIALS = 2


class SearchProgress:
    """Shows how far a search is, and what leads.

    On a terminal a live display; otherwise one line for each trial that ends. A context manager.
    """

    def __init__(
        self,
        study: StudyConfig,
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
        self._records, self._begun = list(records), len(records)
        self._fraction = 0.0
        self._started = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), console=self._console
        )
        self._task = self._bar.add_task("", total=trials, left="")
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
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

    def finished(self, records: Sequence[TrialRecord], trials: int) -> None:
        """The trial at hand ended; `records` are those of all workers so far, of `trials` there are now."""
        self._fraction, self._trials = 0.0, trials
        self._take(records)
        self._update()

    def waiting(self, running: int, records: Sequence[TrialRecord]) -> None:
        """Nothing is left to start, but other workers, or ones that died, still hold `running` trials."""
        self._take(records)
        self._update(f"waiting for {running} trial{'s' * (running > 1)} elsewhere")

    def _take(self, records: Sequence[TrialRecord]) -> None:
        known = set(map(_task, self._records))
        for record in records:
            if _task(record) not in known:
                self._records.append(record)
                if not self._console.is_terminal:
                    self._line(record)

    def seconds_left(self) -> float | None:
        """At the pace since the start (all candidates cost the same macs), and what was predicted.

        The prediction counts as much as `_PREDICTED_TRIALS` trials: the first ones say little, with start-up in them
        and others under way.
        """
        done = len(self._records) + self._fraction
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
        done = len(self._records)
        self._bar.update(
            self._task,
            description=self._label + (doing or f"trial {min(done + 1, self._trials)} of {self._trials}"),
            completed=done + self._fraction,
            left=self._left(),
        )
        self._live.update(self._group())

    def _line(self, record: TrialRecord) -> None:
        if record.failure is not None:
            result = failure(record.failure)
        else:
            result = f"{self._measured} {record.mean(self._study.metric):.4f}"
        place = f"{self._label}[{len(self._records)}/{self._trials}]"
        sys.stderr.write(f"{place} {network(record.candidate.spec)}: {result}; {self._left()}\n")
        sys.stderr.flush()

    def _group(self) -> Group:
        metric, sign = self._study.metric, 1 if self._study.metric == "val_loss" else -1
        merged = merged_records(self._records).values()
        good = sorted((r for r in merged if r.failure is None), key=lambda r: sign * r.mean(metric))
        rows = [
            {
                "": str(place),
                **multipliers(record.candidate.coefficients),
                self._measured: f"{record.mean(metric):.4f}",
                "network": network(record.candidate.spec),
            }
            for place, record in enumerate(good[:LEADERS], start=1)
        ]
        counts = {status: sum(r.status == status for r in self._records) for status in (PRUNED, FAILED)}
        note = [f"{count} {status}" for status, count in counts.items() if count]
        return Group(self._bar, *([table(rows, self._console.width, ())] if rows else []), *note)


def _task(record: TrialRecord) -> tuple[object, ...]:
    return (record.candidate.spec, *(seed.seed for seed in record.seeds))
