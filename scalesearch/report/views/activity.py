"""What goes on in a run: its workers, how fast they are, how long they will take, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from scalesearch.report.views.table import Table, duration, make_table, network, quantity
from scalesearch.runtime.text import enumerated, plural
from scalesearch.scaling.feasible import Candidate

if TYPE_CHECKING:
    from scalesearch.search.queue.activity import Activity, RunningTrial

MOST_SETBACKS = 10
"""Failed trials that are listed; the last ones."""


def workers(activity: Activity) -> Table:
    """A row for each trial that a worker runs."""
    rows = [
        {
            "host": _short(str(running.worker.get("host", "?"))),
            "process": str(running.worker.get("process", "?")),
            "device": str(running.worker.get("device", "")),
            "part": activity.labels[running.study],
            "trial": str(running.number),
            "trained": "" if running.done is None else f"{running.done:.0%}",
            "since": _moment(running.started),
            "last_sign": _last_sign(running),
            "network": _network(running.candidate),
        }
        for running in activity.running
    ]
    table = make_table("Workers", rows, (("process",), ("network",), ("device",), ("since",), ("part",)))
    empty = [key for key in ("device", "part", "last_sign") if not any(row[key] for row in rows)]
    return table.without(*empty)


def setbacks(activity: Activity) -> Table:
    """A row for each trial that failed, was given up, or was taken back from a worker that died."""
    shown = activity.setbacks[-MOST_SETBACKS:]
    rows = [
        {
            "part": activity.labels[setback.study],
            "trial": str(setback.number),
            "kind": setback.kind,
            "why": "; ".join(setback.reasons),
            "network": _network(setback.candidate),
        }
        for setback in shown
    ]
    left = len(activity.setbacks) - len(rows)
    notes = [f"{left:,} more before these: --json lists all."] if left else []
    table = make_table("Failed trials, and trials of workers that died", rows, (("network",), ("part",)), notes)
    return table if any(row["part"] for row in rows) else table.without("part")


def sentences(activity: Activity) -> Iterator[str]:
    """How fast the workers are, how long they will take, and what is not known."""
    if activity.mean_seconds is not None:
        images = activity.images_per_second
        speed = f", {quantity(float(f'{images:.3g}'))} images/s" if images else ""
        of = "The finished trial" if activity.finished == 1 else f"Mean of {activity.finished:,} finished trials"
        yield f"{of}: {duration(activity.mean_seconds)}{speed}."
    at_work = plural(activity.at_work, "worker")
    if activity.trials_per_hour is not None and activity.seconds_left is not None:
        yield (
            f"With {at_work}: about {float(f'{activity.trials_per_hour:.2g}'):,g} trials per hour, "
            f"about {duration(activity.seconds_left)} left."
        )
    elif activity.trials_left and not activity.at_work:
        yield "No worker runs a trial."
    elif activity.trials_left:
        yield f"With {at_work}; time left not known before a trial has finished."
    if any(running.is_unseen for running in activity.running):
        yield "Whether workers of other machines live shows only over several looks (--watch)."
    if activity.not_begun:
        names = [name or "the full schedule" for name in activity.not_begun]
        yield f"Not counted yet, because their trials are not queued: {enumerated(names)}."


def _short(host: str) -> str:
    """A host's name without its domain; an address as it is."""
    first, _, rest = host.partition(".")
    return host if first.isdigit() or not rest else first


def _last_sign(running: RunningTrial) -> str:
    """What is known about the worker's life."""
    if running.has_ended:
        return "has ended"
    if running.was_seen:
        return f"{duration(running.silent_seconds)} ago"
    return f"none for {duration(running.silent_seconds)}" if running.is_silent else ""


def _moment(moment: datetime | None) -> str:
    if moment is None:
        return ""
    return f"{moment:%H:%M}" if moment.date() == datetime.now().date() else f"{moment:%b %d %H:%M}"


def _network(candidate: Candidate | None) -> str:
    return "" if candidate is None else network(candidate.spec)
