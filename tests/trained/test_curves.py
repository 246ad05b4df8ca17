"""Curves as a table and as events of TensorBoard."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from scalesearch.errors import InputError
from scalesearch.trained.curves import EpochRow, TensorBoard, best_of, read_curves, write_curves

ROWS = (
    EpochRow(1, 0.1, 2.5, 2.25, 0.5, None, 100.0, 8.0),
    EpochRow(2, 0.05, 1.5, 1.25, 0.75, None, 90.0, 9.0),
    EpochRow(3, 0.025, 1.0, 1.0, 0.75, None, 90.0, 9.0),
    EpochRow(4, 0.0, 1.0, 1.0, 0.75, None, 90.0, 9.0),
)


def test_rows_come_back_from_their_file_and_the_first_best_one_is_the_best(tmp_path: Path) -> None:
    write_curves(tmp_path, ROWS)
    assert read_curves(tmp_path) == ROWS
    assert best_of(ROWS) is ROWS[2]
    assert best_of(()) is None
    uneven = EpochRow(1, 0.1, 2.5, 2.25, 0.5, 0.25, 100.0, 8.0)
    write_curves(tmp_path, [uneven])
    assert read_curves(tmp_path) == (uneven,)
    assert uneven.rank == (0.25, -2.25)
    (tmp_path / "curves.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(InputError, match=r"curves.csv: not the curves of a training"):
        read_curves(tmp_path)


def test_a_training_that_goes_on_has_each_epoch_once(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, ())
    for row in ROWS[:3]:  # the third is lost
        board.add(row)
    board.close()
    board = TensorBoard(tmp_path, ROWS[:2])
    for row in ROWS[2:]:
        board.add(row)
    board.close()
    (path,) = tmp_path.glob("events.*")
    events = [event for event in events_of(path) if event.summary.value]
    accuracy = [
        (event.step, event.summary.value[0].simple_value, event.wall_time)
        for event in events
        if event.summary.value[0].tag == "accuracy/validation"
    ]
    assert [each[:2] for each in accuracy] == [(1, 0.5), (2, 0.75), (3, 0.75), (4, 0.75)]
    assert accuracy[1][2] - accuracy[0][2] == pytest.approx(9.0)


def events_of(path: Path) -> list[Event]:
    """The records of a file: length and its checksum, content and its checksum."""
    content, events = path.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little")
        events.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    return events
