"""What a search shows while it runs: a line a trial or, on a terminal, a bar with the time left and the leaders."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from scalesearch.report.progress import Progress
from scalesearch.report.views.table import duration, quantity
from scalesearch.results.records import Failure, TrialRecord
from scalesearch.search.events import EpochEnded, Event, Preparing, SearchEnded, SearchStarted, TrialsEnded, Waiting
from tests.planted import PlantedSurface, planted_records, planted_reference, planted_study

RECORDS = planted_records(PlantedSurface(), seeds=(0, 1))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def started(records: Any = (), *, trials: int = 15, metric: str = "val_loss") -> SearchStarted:
    return SearchStarted(
        study=planted_study(),
        label="",
        metric=metric,
        trials=trials,
        records=tuple(records),
        predicted_seconds=20.0 * (trials - len(tuple(records))),
        later_seconds=0.0,
    )


def ended(*records: TrialRecord, trials: int = 15) -> TrialsEnded:
    return TrialsEnded(records, trials)


def drawn(*events: Event, width: int | None = None) -> list[str]:
    """The lines that `events` draw: on a terminal of `width` columns the last picture, else all lines of a log."""
    stream = io.StringIO()
    console = Console(file=stream, width=width or 80, force_terminal=width is not None, color_system=None)
    with Progress(console) as progress:
        for event in events:
            progress(event)
        if width is not None:
            stream.truncate(0)
            stream.seek(0)
            console.print(progress.picture())
        shown = stream.getvalue()
    return shown.splitlines()


def test_time_left_is_as_predicted_at_first_and_then_at_the_pace_seen() -> None:
    clock = Clock()
    progress = Progress(Console(file=io.StringIO()), clock)
    assert progress.seconds_left is None
    progress(started())
    assert progress.seconds_left == 300
    clock.now += 30
    progress(ended(RECORDS[0]))
    assert progress.seconds_left == pytest.approx(14 * (2 * 20 + 30) / 3)  # the prediction counts as two trials
    clock.now += 15
    progress(EpochEnded(0, 0.2))
    progress(EpochEnded(0, 0.5))
    assert progress.seconds_left == pytest.approx(13.5 * (2 * 20 + 45) / 3.5)
    progress(EpochEnded(1, 0.5))  # another worker is half through its trial
    assert progress.seconds_left == pytest.approx(13 * (2 * 20 + 45) / 4)
    progress(EpochEnded(0, 0.0))
    progress(EpochEnded(1, 0.0))
    assert progress.seconds_left == pytest.approx(14 * (2 * 20 + 45) / 3)


def test_a_resumed_search_counts_its_own_pace() -> None:
    clock = Clock()
    progress = Progress(Console(file=io.StringIO()), clock)
    progress(started(RECORDS[:10]))
    assert progress.seconds_left == pytest.approx(5 * 20)
    clock.now += 40
    progress(ended(RECORDS[10]))
    assert progress.seconds_left == pytest.approx(4 * (2 * 20 + 40) / 3)


def test_off_a_terminal_each_trial_that_ends_anywhere_is_one_line() -> None:
    (failed,) = planted_records(
        PlantedSurface(),
        candidates=(RECORDS[1].candidate,),
        fail=lambda c: Failure("diverged", "loss must stay finite"),
    )
    lines = drawn(
        started(),
        EpochEnded(0, 0.5),
        ended(RECORDS[0]),
        ended(failed, RECORDS[2]),  # two ended elsewhere, in the order of the trials
        Waiting(1),
        ended(RECORDS[3]),
        "[a note]",
        SearchEnded(0, 1),
    )
    assert [line[:6] for line in lines[:4]] == ["[1/15]", "[2/15]", "[3/15]", "[4/15]"]
    assert f"val_loss {RECORDS[0].mean('val_loss'):.4f}; " in lines[0]
    assert "failed (diverged: loss must stay finite)" in lines[1]
    assert all(line.endswith(" left") for line in lines[:4])
    assert lines[4:] == ["[a note]"]


def test_by_default_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress("a note")
    assert capsys.readouterr() == ("", "a note\n")


def leaders(lines: list[str]) -> list[str]:
    """The metric's column of the leaders."""
    return [line.split()[4] for line in lines if re.match(r"\d +\d\.\d", line)]


def test_seeds_that_come_one_by_one_lead_by_their_mean() -> None:
    alone = [planted_records(PlantedSurface(), seeds=(seed,))[:3] for seed in (0, 1)]
    lines = drawn(started(alone[0], trials=6), ended(*alone[1], trials=6), width=80)
    both = sorted(record.mean("val_loss") for record in planted_records(PlantedSurface(), seeds=(0, 1))[:3])
    assert leaders(lines) == [f"{value:.4f}" for value in both]


def test_a_validation_names_what_it_measures() -> None:
    (line,) = drawn(started(metric="test loss"), ended(RECORDS[0]))
    assert "test loss 0." in line
    assert "val_loss" not in line
    assert any("test loss" in line for line in drawn(started(RECORDS[:1], metric="test loss"), width=80))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal_a_bar_with_the_time_left_and_the_leaders(width: int) -> None:
    first = drawn(started(), width=width)
    assert "trial 1 of 15" in first[0]
    assert "5 min left" in first[0]
    (failed,) = planted_records(
        PlantedSurface(), candidates=(RECORDS[9].candidate,), fail=lambda c: Failure("diverged", "loss")
    )
    later = drawn(started(), ended(*RECORDS[:8], failed), width=width)
    assert "trial 10 of 15" in later[0]
    assert leaders(later) == [f"{value:.4f}" for value in sorted(r.mean("val_loss") for r in RECORDS[:8])[:5]]
    assert later[-1] == "1 failed"
    assert all(len(line) <= width for line in later)


def test_words_for_counts_and_times() -> None:
    assert [quantity(value) for value in (0, 999, 1000, 385_814_296, 1.2e9)] == ["0", "999", "1 k", "385.8 M", "1.2 G"]
    assert [duration(value) for value in (0, 42.4, 89, 300, 5400)] == ["0 s", "42 s", "89 s", "5 min", "1.5 h"]


def test_images_in_preparation_are_a_bar_on_a_terminal_above_the_search() -> None:
    first, half = Preparing(32, 0, 2000), Preparing(64, 1000, 2000)
    (line,) = drawn(first, width=80)
    assert line.startswith("preparing images at 32 px: 0 of 2,000")
    assert line.rstrip().endswith("time left not known yet")
    lines = drawn(first, started(), half, width=80)
    assert "at 64 px: 1,000 of 2,000" in lines[0]
    assert "trial 1 of 15" in lines[1]
    assert drawn(half, Preparing(64, 2000, 2000), width=80) == []


def test_images_in_preparation_are_a_few_lines_of_a_log() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(Console(file=stream, width=80), clock) as progress:
        for resolution, seconds in [(32, 0), (32, 20), (32, 60), (64, 70), (64, 80)]:
            clock.now = 1000.0 + seconds
            progress(Preparing(resolution, 10 * seconds, 1000))
        clock.now += 20
        progress(Preparing(64, 1000, 1000))
    assert stream.getvalue().splitlines() == [
        "preparing images at 32 px: 0 of 1,000; time left not known yet",
        "preparing images at 32 px: 600 of 1,000; 40 s left",
        "preparing images at 64 px: 700 of 1,000; 30 s left",
        "1,000 images are prepared, after 2 min",
    ]


def test_the_reference_is_counted_and_named_but_does_not_lead() -> None:
    reference = planted_reference(PlantedSurface(linear=(0.0, 0.0, 0.0)))  # better than any candidate
    assert " baseline 10-14 × 24-40 at 96 px: val_loss " in drawn(started(trials=16), ended(reference, trials=16))[0]
    lines = drawn(started(trials=16), ended(reference, *RECORDS[:2], trials=16), width=80)
    assert "trial 4 of 16" in lines[0]
    assert leaders(lines) == [f"{value:.4f}" for value in sorted(record.mean("val_loss") for record in RECORDS[:2])]
