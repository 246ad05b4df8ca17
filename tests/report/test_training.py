"""What a training shows while it runs: a line an epoch or, on a terminal, a bar with speed and time left."""

from __future__ import annotations

import io

from rich.console import Console

from scalesearch.report.training import TrainingProgress
from scalesearch.search.events import Preparing
from scalesearch.trained.curves import EpochRow
from scalesearch.trained.events import EpochTrained, Event, PartTrained, TrainingPlanned, TrainingStarted


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def row(epoch: int, accuracy: float, balanced: float | None = None) -> EpochRow:
    return EpochRow(epoch, 0.1, 1.5, 1.25, accuracy, balanced, 200.0, 30.0)


def drawn(*events: tuple[float, Event], terminal: bool) -> tuple[str, str]:
    """What events at these times print, and the last picture."""
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, highlight=False, color_system=None)
    with TrainingProgress(console, clock) as progress:
        for seconds, event in events:
            clock.now = 1000.0 + seconds
            progress(event)
        picture = Console(file=io.StringIO(), width=100, record=True)
        picture.print(progress.picture())
    return out.getvalue(), picture.export_text()


EVENTS = (
    (0.0, TrainingPlanned("small φ = 2", 10, 6000, 300.0)),
    (0.0, Preparing(32, 10, 10)),
    (20.0, TrainingStarted(2.0)),
    (35.0, PartTrained(2.5, 210.0)),
    (50.0, EpochTrained(row(3, 0.5), True)),
    (80.0, EpochTrained(row(4, 0.25, 0.125), False)),
)


def test_a_log_has_a_line_an_epoch() -> None:
    log, _ = drawn(*EVENTS, terminal=False)
    assert log.splitlines() == [
        "small φ = 2: 10 epochs of 6,000 images, about 5 min on 2 CPU cores",
        "10 images are prepared, after 0 s",
        "goes on after 2 epochs",
        "[3/10] loss 1.5000, validation loss 1.2500, accuracy 0.5000, the best so far; 200 images/s; 4 min left",
        "[4/10] loss 1.5000, validation loss 1.2500, accuracy 0.2500, balanced 0.1250; 200 images/s; 3 min left",
    ]


def test_a_bar_shows_speed_time_left_and_the_best_epoch() -> None:
    _, picture = drawn(*EVENTS[:4], terminal=True)
    assert "epoch 3 of 10" in picture
    assert "210 images/s, 4 min left" in picture
    _, picture = drawn(*EVENTS, terminal=True)
    assert "last: epoch 4: loss 1.5000" in picture
    assert "best: epoch 3: loss 1.5000" in picture
    _, picture = drawn(*EVENTS[:2], terminal=True)
    assert "compiling" in picture
    assert "time left not known yet" in picture
