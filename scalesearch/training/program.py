"""The compiled functions of a network: its initial state, one whole epoch of training, its evaluation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, UInt32

from scalesearch.config import TrainingSection
from scalesearch.models.network import Network
from scalesearch.models.ops import Forms
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.training.augment import augment
from scalesearch.training.draws import EpochDraws, draws_of_epoch, init_generator
from scalesearch.training.optimizer import build_optimizer
from scalesearch.training.packing import pack_on_host, packing_of
from scalesearch.training.pipeline import EpochData, standardise
from scalesearch.training.schedule import Schedule, learning_rate
from scalesearch.training.step import Evaluation, Layout, TrainState, Weights, evaluate, train_step


@dataclass(frozen=True, slots=True)
class Program:
    """The compiled functions of one network.

    `init(seeds) -> state`; `epoch(state, data, draws, schedule) -> (state, mean training loss)`, which
    consumes the state that it is given; `evaluate(state, data) -> Evaluation`. Seeds, draws, schedule and
    data are arguments, so one program serves them all. `seeds` is a scalar, or (S,): then states, draws and
    results have that leading axis.
    """

    init: Callable[..., TrainState]
    epoch: Callable[..., tuple[TrainState, Float[Array, "*s"]]]
    evaluate: Callable[..., Evaluation]
    compile_seconds: float


def compile_program(
    spec: ArchitectureSpec,
    forms: Forms,
    training: TrainingSection,
    data: EpochData,
    schedule: Schedule,
    seeds: UInt32[Array, "*s"],
) -> Program:
    """Compiles for the shapes of `data` and `seeds`, side by side in threads; vector `seeds` train side by side."""
    start = time.perf_counter()
    optimizer = build_optimizer(training)
    layout = layout_of(Network(spec, forms=forms, dropout=training.dropout, rng=init_generator(0)))
    epoch = _epoch_function(training, layout, optimizer)
    judge = partial(evaluate, layout=layout)
    if seeds.ndim:
        epoch = jax.vmap(epoch, in_axes=(0, None, 0, None))
        judge = jax.vmap(judge, in_axes=(0, None))
    init = partial(initial_state, spec, training=training, optimizer=optimizer)
    state = init(seeds)
    draws = draws_of_epoch(seeds, jnp.int32(0), images=len(data.labels), batch_size=training.batch_size)
    # The longest first. Lowering is Python and holds the interpreter; compiling is not and does not.
    futures = [
        _in_background(jax.jit(epoch, donate_argnums=0).lower(state, data, draws, schedule).compile),
        _in_background(jax.jit(judge).lower(state, data).compile),
    ]
    wait(futures)
    compiled_epoch, compiled_judge = (future.result() for future in futures)
    return Program(init, compiled_epoch, compiled_judge, time.perf_counter() - start)


def layout_of(network: Network) -> Layout:
    """How the variables of `network` are packed, and the rest of it."""
    graphdef, *states = nnx.split(network, nnx.Param, nnx.BatchStat)
    return Layout(graphdef, *map(packing_of, states))


def initial_state(
    spec: ArchitectureSpec,
    seeds: UInt32[Array, "*s"],
    training: TrainingSection,
    optimizer: optax.GradientTransformationExtraArgs,
) -> TrainState:
    """The state before the first step, built on the host; vector `seeds` give every array that leading axis."""

    def draw(seed: int) -> Weights:
        network = Network(spec, forms="native", dropout=training.dropout, rng=init_generator(seed))
        return Weights(*(pack_on_host(nnx.state(network, kind)) for kind in (nnx.Param, nnx.BatchStat)))

    drawn = [draw(seed) for seed in np.atleast_1d(seeds).tolist()]
    # jnp.array copies: the epoch consumes its state, which must not be numpy's memory
    params, stats = jax.tree.map(lambda *each: jnp.array(np.stack(each) if seeds.ndim else each[0]), *drawn)
    weights = Weights(params, jax.tree.map(jnp.zeros_like, stats))
    average = jax.tree.map(jnp.zeros_like, weights) if training.ema_decay else None
    start = jax.vmap(optimizer.init) if seeds.ndim else optimizer.init
    return TrainState(jnp.zeros(seeds.shape, jnp.int32), weights, start(params), average)


def _epoch_function(
    training: TrainingSection, layout: Layout, optimizer: optax.GradientTransformationExtraArgs
) -> Callable[..., tuple[TrainState, Any]]:
    def epoch(
        state: TrainState, data: EpochData, draws: EpochDraws, schedule: Schedule
    ) -> tuple[TrainState, Float[Array, ""]]:
        def step(state: TrainState, drawn: EpochDraws) -> tuple[TrainState, Float[Array, ""]]:
            images = augment(
                data.images[drawn.order], drawn.offsets, drawn.mirrored, shift=training.shift, flip=training.flip
            )
            return train_step(
                state,
                standardise(images, data.mean, data.std),
                data.labels[drawn.order],
                drawn.dropout_keys if training.dropout else None,
                learning_rate(schedule, state.step),
                layout=layout,
                optimizer=optimizer,
                label_smoothing=training.label_smoothing,
                ema_decay=training.ema_decay,
            )

        state, losses = jax.lax.scan(step, state, draws)
        return state, losses.mean()

    return epoch


def _in_background(function: Callable[[], Any]) -> Future[Any]:
    """Runs `function` in a thread of its own, so that the caller waits where an interrupt reaches it.

    A daemon, unlike those of an executor: an interrupted process need not see the compilation through.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
