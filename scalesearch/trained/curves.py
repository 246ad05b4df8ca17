"""The curves of a training: a row an epoch, as curves.csv and as events of TensorBoard."""

from __future__ import annotations

import csv
import dataclasses
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalesearch.errors import InputError
from scalesearch.runtime.files import write_text

CURVES_FILE = "curves.csv"
EVENTS = "events.*"


@dataclass(frozen=True, slots=True)
class EpochRow:
    """What an epoch gave, counted from 1.

    Attributes:
        epoch: its number.
        learning_rate: of its last step.
        train_loss: mean over its steps, of images as they were augmented.
        val_loss: cross-entropy in nats of the evaluated weights.
        val_accuracy: the fraction of validation images that are classified right.
        val_balanced_accuracy: the mean over the classes; None where classes are even.
        images_per_second: training images over the time of the epoch without its evaluation.
        seconds: of the epoch, evaluation included.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float | None
    images_per_second: float
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """What the best epoch has most of: (balanced) accuracy, and where this is equal, the lower loss."""
        return (self.val_accuracy if self.val_balanced_accuracy is None else self.val_balanced_accuracy), -self.val_loss


_COLUMNS = tuple(field.name for field in dataclasses.fields(EpochRow))


def best_of(rows: Sequence[EpochRow]) -> EpochRow | None:
    """The best epoch, the first of equal ones; None of none."""
    return max(rows, key=lambda row: row.rank, default=None)


def write_curves(folder: Path, rows: Sequence[EpochRow]) -> None:
    """Writes curves.csv, whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(dataclasses.astuple(row) for row in rows)
    write_text(folder / CURVES_FILE, text.getvalue())


def read_curves(folder: Path) -> tuple[EpochRow, ...]:
    """The rows of curves.csv. Raises `InputError` if it is not there or is not one of ours."""
    path = folder / CURVES_FILE
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return tuple(_row(row) for row in rows)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: not the curves of a training (columns {', '.join(_COLUMNS)})") from None


def _row(row: dict[str, str]) -> EpochRow:
    numbers = {name: float(row[name]) if row[name] else None for name in _COLUMNS[1:]}
    return EpochRow(int(row["epoch"]), **numbers)  # type: ignore[arg-type]  # only one may be None


class TensorBoard:
    """The events of a training, in files `events.*` of its folder.

    A training that goes on writes all of them again, so that no epoch is there twice. Their times are those of the
    epochs, without the pauses in between.
    """

    def __init__(self, folder: Path, rows: Sequence[EpochRow]) -> None:
        from tensorboardX import SummaryWriter

        for path in folder.glob(EVENTS):
            path.unlink()
        self._writer: Any = SummaryWriter(str(folder))
        self._time = time.time() - sum(row.seconds for row in rows)
        for row in rows:
            self.add(row)

    def add(self, row: EpochRow) -> None:
        """Writes the events of an epoch."""
        self._time += row.seconds
        values = {
            "loss/train": row.train_loss,
            "loss/validation": row.val_loss,
            "accuracy/validation": row.val_accuracy,
            "accuracy/balanced": row.val_balanced_accuracy,
            "learning_rate": row.learning_rate,
            "images_per_second": row.images_per_second,
        }
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, row.epoch, self._time)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
