"""The epochs of a training, whole or in parts, from its beginning or from where an earlier one stood."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt32

from scalesearch.data.stream import ImageStream
from scalesearch.runtime import interrupts
from scalesearch.study.training import TrainingSection
from scalesearch.training.draws import EpochDraws, draws_of_epoch
from scalesearch.training.parts import no_losses
from scalesearch.training.prepare import Prepared
from scalesearch.training.state import TrainState

PART_SECONDS = 5.0
"""How long a part of an epoch takes, about: until an interrupt is seen, and the bar moves."""

_POLL_SECONDS = 0.005


class TrainingDiverged(RuntimeError):
    """The loss of a seed stopped being finite."""

    def __init__(self, seed: int, epoch: int, learning_rate: float, losses: tuple[float, float]) -> None:
        self.seed, self.epoch, self.learning_rate, self.losses = seed, epoch, learning_rate, losses
        super().__init__(
            f"loss must stay finite, but in epoch {epoch} of seed {seed} training loss was {losses[0]:g} and "
            f"validation loss {losses[1]:g}; the learning rate peaks at {learning_rate:g}: lower it or warm up longer"
        )

    def __reduce__(self) -> tuple[type, tuple[int, int, float, tuple[float, float]]]:
        return type(self), (self.seed, self.epoch, self.learning_rate, self.losses)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training stands: what it can go on from.

    Attributes:
        epoch: whole epochs that are done.
        state: the state, which training on consumes.
        step: steps of the next epoch that are done.
        losses: of each step of that epoch, 0 for those to come; None if none is done.
        mean: of these; after its last step the epoch's training loss.
    """

    epoch: int
    state: TrainState
    step: int = 0
    losses: Any = None
    mean: Any = None


def train_epochs(
    prepared: Prepared,
    group: UInt32[np.ndarray, "*s"],
    training: TrainingSection,
    start: Place | None = None,
    on_part: Callable[[Place], object] | None = None,
    part_seconds: float = PART_SECONDS,
) -> Iterator[tuple[Place, np.ndarray]]:
    """Trains epoch after epoch; after each, where the training stands and the epoch's values.

    These are, for each seed (3 or 4, seeds): training loss, then what `Program.evaluate` gives.

    Args:
        prepared: the network, ready to train.
        group: one seed, or several that train side by side.
        training: the schedule.
        start: where an earlier training of the same network stood; None to begin.
        on_part: called after each part of an epoch, if `prepared` trains in parts. An interrupt waits for it.
        part_seconds: how long a part takes, about.

    Raises:
        TrainingDiverged: a loss is not finite.
    """
    program, data = prepared.program, prepared.data
    place = start or Place(0, program.init(group))

    def draw(epoch: int) -> EpochDraws:
        return draws_of_epoch(group, epoch, training, images=len(data.labels))

    def check_finite(epoch: int, losses: np.ndarray) -> None:
        """A diverged seed ends the training of all."""
        finite = np.isfinite(losses).all(0)
        if not finite.all():
            worst = int(finite.argmin())
            seed = int(np.atleast_1d(group)[worst])
            train_loss, val_loss = float(losses[0, worst]), float(losses[1, worst]) if len(losses) > 1 else math.nan
            raise TrainingDiverged(seed, epoch + 1, training.learning_rate, (train_loss, val_loss))

    pace = _Pace(part_seconds)

    def train_in_parts(epoch: int, draws: EpochDraws, on_part: Callable[[Place], object]) -> tuple[TrainState, Any]:
        """`program.epoch`, from where `place` is."""
        assert program.parts is not None
        state, losses, mean = place.state, place.losses, place.mean
        losses = no_losses(draws) if losses is None else losses
        parts = program.parts(state, losses, data, draws, prepared.schedule, place.step, pace.steps)
        with contextlib.closing(parts):
            pace.start(place.step)
            for part in parts:
                state, mean = part.state, part.mean
                if isinstance(data, ImageStream) and not (pace.is_due() or part.done == len(draws.order)):
                    continue  # its chunks follow each other without a pause
                _wait_for(mean)
                pace.stop(part.done)
                check_finite(epoch, np.atleast_2d(mean))
                on_part(Place(epoch, state, part.done, part.losses, mean))
                pace.start(part.done)
        return state, mean

    draws = draw(place.epoch) if place.epoch < training.epochs else None
    for epoch in range(place.epoch, training.epochs):
        if draws is None or program.parts is None or on_part is None:
            state, train_loss = program.epoch(place.state, data, draws, prepared.schedule)
        else:
            state, train_loss = train_in_parts(epoch, draws, on_part)
        judged = program.evaluate(state, data)
        # The device computes while the host draws the next epoch.
        draws = draw(epoch + 1) if epoch + 1 < training.epochs else None
        _wait_for(*judged, check=interrupts.check)
        values = np.stack([np.atleast_1d(value) for value in jax.device_get((train_loss, *judged))])
        check_finite(epoch, values[:2])
        place = Place(epoch + 1, state)
        yield place, values


class _Pace:
    """How many steps of an epoch take so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._seconds_per_step = seconds, math.inf
        self._start, self._first = 0.0, 0

    def start(self, done: int) -> None:
        """A part begins after `done` steps."""
        self._start, self._first = time.perf_counter(), done

    def stop(self, done: int) -> None:
        """It has ended after `done` steps."""
        self._seconds_per_step = (time.perf_counter() - self._start) / (done - self._first)

    def is_due(self) -> bool:
        """Whether the part has taken that long."""
        return time.perf_counter() - self._start >= self._seconds

    def steps(self) -> int:
        """Steps of the next part; a single one before the first is measured."""
        return max(1, int(self._seconds / self._seconds_per_step))


def _wait_for(*values: jax.Array, check: Callable[[], object] = lambda: None) -> None:
    """Waits in Python, not inside the runtime, so that an interrupt that `check` raises gets through at once."""
    check()
    while not all(value.is_ready() for value in values):  # type: ignore[attr-defined]  # a jax.Array's
        time.sleep(_POLL_SECONDS)
        check()
