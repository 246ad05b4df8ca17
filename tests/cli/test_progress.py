"""What a search shows while it goes on: a line a trial or, on a terminal, a bar with the time left and the leaders."""

from __future__ import annotations

import re

import pytest

from scalesearch.report import progress as module
from scalesearch.report.progress import SearchProgress
from scalesearch.report.views.table import duration, quantity
from scalesearch.results.records import Failure
from tests.planted import PlantedSurface, planted_records, planted_study

RECORDS = planted_records(PlantedSurface(), seeds=(0, 1))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


def test_time_left_is_as_predicted_at_first_and_then_at_the_pace_seen(clock: Clock) -> None:
    progress = SearchProgress(planted_study(), 15, 300.0, [])
    assert progress.seconds_left() == 300
    clock.now += 30
    progress.seen(RECORDS[:1], 15)
    assert progress.seconds_left() == pytest.approx(14 * (2 * 20 + 30) / 3)  # the prediction counts as two trials
    # Two seeds of three epochs: half a trial is three of them.
    clock.now += 15
    progress.epoch(1 / 6)
    progress.epoch(2 / 6)
    assert progress.seconds_left() == pytest.approx(13.5 * (2 * 20 + 45) / 3.5)
    progress.seen([], 15)  # it was taken away
    assert progress.seconds_left() == pytest.approx(14 * (2 * 20 + 45) / 3)


def test_a_resumed_search_counts_its_own_pace(clock: Clock) -> None:
    progress = SearchProgress(planted_study(), 15, 300.0, RECORDS[:10])
    assert progress.seconds_left() == pytest.approx(5 * 20)
    clock.now += 40
    progress.seen(RECORDS[10:11], 15)
    assert progress.seconds_left() == pytest.approx(4 * (2 * 20 + 40) / 3)


def test_off_a_terminal_each_trial_that_ends_anywhere_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    failed = planted_records(
        PlantedSurface(),
        candidates=(RECORDS[1].candidate,),
        fail=lambda c: Failure("diverged", "loss must stay finite"),
    )
    with SearchProgress(planted_study(), 15, 300.0, []) as progress:
        progress.seen([RECORDS[0]], 15)
        progress.seen([failed[0], RECORDS[2]], 15)  # two ended elsewhere; the order is the trials'
        progress.waiting(1)
        progress.seen([RECORDS[3]], 15)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line[:6] for line in lines] == ["[1/15]", "[2/15]", "[3/15]", "[4/15]"]
    assert f"val_loss {RECORDS[0].mean('val_loss'):.4f}; " in lines[0]
    assert "failed (diverged: loss must stay finite)" in lines[1]
    assert all(line.endswith(" left") for line in lines)


def test_seeds_that_come_one_by_one_lead_by_their_mean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    alone = [planted_records(PlantedSurface(), seeds=(seed,))[:3] for seed in (0, 1)]
    with SearchProgress(planted_study(), 6, 300.0, alone[0]) as progress:
        progress.seen(alone[1], 6)
        progress._live.refresh()
    both = sorted(record.mean("val_loss") for record in planted_records(PlantedSurface(), seeds=(0, 1))[:3])
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).replace("\r", "\n")
    assert re.findall(r"^\d .* (\d\.\d{4}) ", shown, re.MULTILINE)[-3:] == [f"{value:.4f}" for value in both]


def test_a_validation_names_what_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress(planted_study(), 15, 300.0, [], measured="test loss") as progress:
        progress.seen(RECORDS[:1], 15)
    told = capsys.readouterr().err
    assert "test loss 0." in told
    assert "val_loss" not in told


def test_on_a_terminal_a_bar_with_the_time_left_and_the_leaders(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    with SearchProgress(planted_study(), 15, 300.0, []) as progress:
        progress._live.refresh()
        first = capsys.readouterr().err
        clock.now += 60
        progress.seen(RECORDS[:8], 15)
        progress._live.refresh()
        later = capsys.readouterr().err
    first, later = (re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text) for text in (first, later))
    assert "trial 1 of 15" in first
    assert "5 min left" in first
    assert "trial 9 of 15" in later
    assert "70 s left" in later  # 7 of 15 at (2 · 20 + 60) s for 2 + 8 of them
    best = sorted(record.mean("val_loss") for record in RECORDS[:8])[:5]
    shown = re.findall(r"^\d .* (\d\.\d{4}) ", later.replace("\r", "\n"), re.MULTILINE)
    assert shown[-5:] == [f"{value:.4f}" for value in best]
    assert all(len(line) <= 80 for line in later.splitlines())


def test_words_for_counts_and_times() -> None:
    assert [quantity(value) for value in (0, 999, 1000, 385_814_296, 1.2e9)] == ["0", "999", "1 k", "385.8 M", "1.2 G"]
    assert [duration(value) for value in (0, 42.4, 89, 300, 5400)] == ["0 s", "42 s", "89 s", "5 min", "1.5 h"]
