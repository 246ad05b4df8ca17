"""A network's training and evaluation on a stream: a compiled function that is called chunk after chunk.

A chunk's steps are those of `train_epoch`, one at a time, and its sums those of `evaluate`, so that a stream gives the
results of data that lie on the device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scalesearch.data.feed import EpochData
from scalesearch.data.stream import Chunk, ImageStream
from scalesearch.runtime import interrupts
from scalesearch.training.draws import EpochDraws
from scalesearch.training.parallel.data import Shardings
from scalesearch.training.parts import Part, Parts
from scalesearch.training.schedule import Schedule
from scalesearch.training.state import Layout, TrainState
from scalesearch.training.step import Means, Totals, add_batches, means_of

_POLL_SECONDS = 0.002

Statistics = tuple[Float[Array, " c"], Float[Array, " c"], Float[Array, " k"] | None]
"""Mean and deviation of each channel, and the weights of classes: the last fields of `EpochData`."""


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkFunctions:
    """The jitted functions of a chunk, and the shapes of what they take, for compiling them ahead."""

    epoch: Any
    evaluate: Any
    epoch_arguments: tuple[Any, ...]
    evaluate_arguments: tuple[Any, ...]


def chunk_functions(
    train_epoch: Callable[..., tuple[TrainState, Float[Array, ""]]],
    layout: Layout,
    micro_batches: int,
    stream: ImageStream,
    state: TrainState,
    draws: EpochDraws,
    schedule: Schedule,
    shardings: Shardings | None,
) -> ChunkFunctions:
    """The functions of a chunk of `stream`.

    Args:
        train_epoch: trains on the steps of an epoch, `(state, data, draws, schedule)`.
        layout: how weights become a network.
        micro_batches: cuts batches, see `training.memory`.
        stream: the data.
        state: the state, for its shapes.
        draws: the draws of an epoch; with a leading axis for several seeds.
        schedule: the schedule.
        shardings: where arguments lie on several devices.
    """
    seeds, steps = draws.order.shape[:-2], stream.steps_per_chunk(draws.order.shape)
    epoch: Any = partial(train_chunk, train_epoch=train_epoch)
    judge: Any = partial(evaluate_chunk, layout=layout, micro_batches=micro_batches)
    if seeds:
        epoch = jax.vmap(epoch, in_axes=(0, 0, 0, None, 0, None, None, None))
        judge = jax.vmap(judge, in_axes=(0, 0, None, None, None))
    array: Any = jax.ShapeDtypeStruct

    def chunk(images: np.ndarray, *shape: int) -> Chunk:
        return Chunk(array((*shape, *images.shape[1:]), np.uint8), array(shape, np.int32))

    number, statistics = array((), np.int32), _statistics(stream)
    losses = array(draws.order.shape[:-1], np.float32)
    totals = tuple(array(seeds, dtype) for dtype in _totals(stream))
    part = jax.tree.map(lambda each: each[_steps(draws, 0, steps)], draws)
    batch = draws.order.shape[-1]
    epoch_arguments = (
        state,
        losses,
        chunk(stream.images, *seeds, steps, batch),
        statistics,
        part,
        schedule,
        number,
        number,
    )
    evaluated = chunk(stream.val_images, stream.batches_per_chunk, stream.val_labels.shape[1])
    evaluate_arguments = (state, totals, evaluated, statistics, number)
    if shardings is None:
        return ChunkFunctions(
            jax.jit(epoch, donate_argnums=(0, 1)), jax.jit(judge), epoch_arguments, evaluate_arguments
        )
    whole, data, spread = shardings
    inputs = (whole, whole, spread.order, whole, spread, whole, whole, whole)
    return ChunkFunctions(
        jax.jit(epoch, donate_argnums=(0, 1), in_shardings=inputs, out_shardings=whole),
        jax.jit(judge, in_shardings=(whole, whole, data.val_images, whole, whole), out_shardings=whole),
        epoch_arguments,
        evaluate_arguments,
    )


def train_chunk(
    state: TrainState,
    losses: Float[Array, " steps"],
    chunk: Chunk,
    statistics: Statistics,
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
        images, labels = chunk.images[place], chunk.labels[place]
        data = EpochData(images, labels, images, labels, *statistics)
        drawn = jax.tree.map(lambda each: jax.lax.dynamic_slice_in_dim(each, place, 1), draws)
        drawn = dataclasses.replace(drawn, order=jnp.arange(len(labels))[None])
        state, loss = train_epoch(state, data, drawn, schedule)
        return state, losses.at[first + place].set(loss)

    state, losses = jax.lax.fori_loop(0, count, step, (state, losses))
    return state, losses, losses.mean()


def evaluate_chunk(
    state: TrainState,
    totals: Totals,
    chunk: Chunk,
    statistics: Statistics,
    count: Int[Array, ""],
    *,
    layout: Layout,
    micro_batches: int,
) -> tuple[Totals, Means]:
    """The sums over the validation batches so far, and their means over `count` images."""
    data = EpochData(chunk.images[0], chunk.labels[0], chunk.images, chunk.labels, *statistics)
    totals = add_batches(totals, state, data, layout, micro_batches)
    return totals, means_of(totals, count)


def in_chunks(
    epoch: Callable[..., Any], judge: Callable[..., Any], shardings: Shardings | None
) -> tuple[Parts, Callable[..., Any]]:
    """`Program.parts` and `Program.evaluate` of a stream, by the compiled functions of a chunk.

    The device computes a chunk while the next one waits on it and others are gathered. An interrupt is seen between
    chunks.
    """

    def parts(
        state: TrainState,
        losses: Any,
        data: ImageStream,
        draws: EpochDraws,
        schedule: Schedule,
        first: int,
        most: Callable[[], int],
    ) -> Generator[Part, None, None]:
        del most  # a part is a chunk
        steps, count = data.steps_per_chunk(draws.order.shape), draws.order.shape[-2]
        chunks = -(-(count - first) // steps)
        axis, missing = draws.order.ndim - 2, first + chunks * steps - count
        padded = jax.tree.map(
            lambda each: np.pad(each, [(0, missing if place == axis else 0) for place in range(each.ndim)]), draws
        )
        means: list[Array] = []
        sharding = None if shardings is None else shardings[2].order
        with contextlib.closing(data.train_chunks(draws.order, sharding, first)) as stream:
            for chunk in stream:
                part = jax.tree.map(lambda each, first=first: each[_steps(draws, first, steps)], padded)
                numbers = np.int32(first), np.int32(min(steps, count - first))
                state, losses, mean = epoch(state, losses, chunk, _statistics(data), part, schedule, *numbers)
                means.append(mean)
                first = min(first + steps, count)
                yield Part(state, losses, mean, first)
                _wait_but_for_the_last(means)

    def whole_evaluation(state: TrainState, data: ImageStream) -> Means:
        count = np.int32((data.val_labels >= 0).sum())
        totals: Any = tuple(np.zeros(state.step.shape, dtype) for dtype in _totals(data))
        means: list[Means] = []
        sharding = None if shardings is None else shardings[1].val_images
        with contextlib.closing(data.val_chunks(sharding)) as stream:
            for chunk in stream:
                totals, mean = judge(state, totals, chunk, _statistics(data), count)
                means.append(mean)
                _wait_but_for_the_last([loss for loss, *_ in means])
        return means[-1]

    return parts, whole_evaluation


def _statistics(stream: ImageStream) -> Any:
    return stream.mean, stream.std, stream.class_weights


def _totals(stream: ImageStream) -> tuple[type[np.generic], ...]:
    """The types of the `Totals` of a stream."""
    return (np.float32, np.int32) if stream.class_weights is None else (np.float32, np.int32, np.float32)


def _steps(draws: EpochDraws, first: int, steps: int) -> tuple[slice, ...]:
    """The index of some steps in the arrays of draws, which may begin with an axis of seeds."""
    return (*(slice(None),) * (draws.order.ndim - 2), slice(first, first + steps))


def _wait_but_for_the_last(results: list[Array]) -> None:
    """Waits for the chunk before the last one that was handed out, so that only two are on the device."""
    interrupts.check()
    while len(results) > 1 and not results[-2].is_ready():  # type: ignore[attr-defined]  # a jax.Array's
        time.sleep(_POLL_SECONDS)
        interrupts.check()
