"""An epoch in parts, between which a training can report, stop, and write a checkpoint.

The steps of an epoch are the same however it is cut: each is one turn of the same compiled loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scalesearch.data.feed import EpochData, Feed
from scalesearch.training.draws import EpochDraws
from scalesearch.training.schedule import Schedule
from scalesearch.training.state import TrainState


class Part(NamedTuple):
    """Where an epoch stands after a part of it; the next part consumes `state` and `losses`.

    Attributes:
        state: after the part.
        losses: of each step of the epoch so far; 0 for those to come.
        mean: of all `losses`, so that after the last part it is the epoch's training loss.
        done: steps of the epoch so far.
    """

    state: TrainState
    losses: Float[Array, "*s steps"]
    mean: Float[Array, "*s"]
    done: int


class Parts(Protocol):
    """Trains an epoch from step `first` on, part after part, each of at most `most()` steps unless it is a stream's."""

    def __call__(
        self,
        state: TrainState,
        losses: Any,
        data: Any,
        draws: EpochDraws,
        schedule: Schedule,
        first: int,
        most: Callable[[], int],
        /,
    ) -> Generator[Part, None, None]:
        """The parts of the epoch that are left."""


def whole_epoch(parts: Parts) -> Callable[..., Any]:
    """`Program.epoch`: all parts of an epoch."""

    def epoch(state: TrainState, data: Feed, draws: EpochDraws, schedule: Schedule) -> tuple[TrainState, Any]:
        for part in parts(state, no_losses(draws), data, draws, schedule, 0, lambda: draws.order.shape[-2]):
            state, mean = part.state, part.mean
        return state, mean

    return epoch


def no_losses(draws: EpochDraws) -> np.ndarray:
    """The losses of an epoch before its first step."""
    return np.zeros(draws.order.shape[:-1], np.float32)


def in_parts(part: Callable[..., Any]) -> Parts:
    """`Program.parts` of data on the device, by the compiled `train_part`."""

    def parts(
        state: TrainState,
        losses: Any,
        data: EpochData,
        draws: EpochDraws,
        schedule: Schedule,
        first: int,
        most: Callable[[], int],
    ) -> Generator[Part, None, None]:
        count = draws.order.shape[-2]
        while first < count:
            steps = min(most(), count - first)
            state, losses, mean = part(state, losses, data, draws, schedule, np.int32(first), np.int32(steps))
            first += steps
            yield Part(state, losses, mean, first)

    return parts


def train_part(
    state: TrainState,
    losses: Float[Array, " steps"],
    data: EpochData,
    draws: EpochDraws,
    schedule: Schedule,
    first: Int[Array, ""],
    count: Int[Array, ""],
    *,
    train_epoch: Callable[..., tuple[TrainState, Float[Array, ""]]],
) -> tuple[TrainState, Float[Array, " steps"], Float[Array, ""]]:
    """Steps `first` … `first + count − 1` of an epoch: the state, the epoch's losses so far, and their mean."""

    def step(
        place: Int[Array, ""], carry: tuple[TrainState, Float[Array, " steps"]]
    ) -> tuple[TrainState, Float[Array, " steps"]]:
        state, losses = carry
        drawn = jax.tree.map(lambda each: jax.lax.dynamic_slice_in_dim(each, place, 1), draws)
        state, loss = train_epoch(state, data, drawn, schedule)
        return state, losses.at[place].set(loss)

    state, losses = jax.lax.fori_loop(first, first + count, step, (state, losses))
    return state, losses, jnp.mean(losses)


def jitted_part(train_epoch: Callable[..., Any], shardings: Any) -> Any:
    """`train_part`, jitted; with `shardings` on several devices."""
    part = partial(train_part, train_epoch=train_epoch)
    if shardings is None:
        return jax.jit(part, donate_argnums=(0, 1))
    whole, data, draws = shardings
    inputs = (whole, whole, data, draws, whole, whole, whole)
    return jax.jit(part, donate_argnums=(0, 1), in_shardings=inputs, out_shardings=whole)
