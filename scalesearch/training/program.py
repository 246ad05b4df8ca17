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
import optax
from flax import nnx
from jaxtyping import Array, Float, UInt32

from scalesearch.config import TrainingSection
from scalesearch.models.network import Network
from scalesearch.models.ops import Forms
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.training.augment import augment
from scalesearch.training.draws import EpochDraws, Stream, draws_of_epoch, stream_key
from scalesearch.training.optimizer import build_optimizer
from scalesearch.training.packing import packing_of
from scalesearch.training.pipeline import EpochData, standardise
from scalesearch.training.schedule import Schedule, learning_rate
from scalesearch.training.step import Evaluation, Layout, TrainState, Weights, evaluate, train_step

# Drawing a hundred kernels once is not worth optimising, and the optimiser is most of what compiling it costs.
_INIT_OPTIONS: dict[str, dict[str, str | bool]] = {"cpu": {"xla_backend_optimization_level": "0"}}


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
    layout = _layout(spec, forms, training.dropout)
    init = _init_function(spec, forms, training, layout, optimizer)
    epoch = _epoch_function(training, layout, optimizer)
    judge = partial(evaluate, layout=layout)
    if seeds.ndim:
        init = partial(jax.lax.map, init)  # not vmap: one seed's draws compile once, and are bit for bit the same
        epoch = jax.vmap(epoch, in_axes=(0, None, 0, None))
        judge = jax.vmap(judge, in_axes=(0, None))
    state = jax.eval_shape(init, seeds)
    draws = draws_of_epoch(seeds, jnp.int32(0), images=len(data.labels), batch_size=training.batch_size)
    options = _INIT_OPTIONS.get(jax.default_backend())
    # The longest first. Lowering is Python and holds the interpreter; compiling is not and does not.
    futures = [
        _in_background(jax.jit(epoch, donate_argnums=0).lower(state, data, draws, schedule).compile),
        _in_background(jax.jit(judge).lower(state, data).compile),
        _in_background(partial(jax.jit(init).lower(seeds).compile, compiler_options=options)),
    ]
    wait(futures)
    compiled_epoch, compiled_judge, compiled_init = (future.result() for future in futures)
    return Program(compiled_init, compiled_epoch, compiled_judge, time.perf_counter() - start)


def _build(seed: UInt32[Array, ""], spec: ArchitectureSpec, forms: Forms, dropout: float) -> Network:
    return Network(spec, forms=forms, dropout=dropout, rngs=nnx.Rngs(stream_key(seed, Stream.INIT)))


def _layout(spec: ArchitectureSpec, forms: Forms, dropout: float) -> Layout:
    network = nnx.eval_shape(partial(_build, spec=spec, forms=forms, dropout=dropout), jnp.uint32(0))
    graphdef, *states = nnx.split(network, nnx.Param, nnx.BatchStat)
    return Layout(graphdef, *map(packing_of, states))


def _init_function(
    spec: ArchitectureSpec,
    forms: Forms,
    training: TrainingSection,
    layout: Layout,
    optimizer: optax.GradientTransformationExtraArgs,
) -> Callable[..., TrainState]:
    def init(seed: UInt32[Array, ""]) -> TrainState:
        network = _build(seed, spec, forms, training.dropout)
        params, stats = (nnx.state(network, kind) for kind in (nnx.Param, nnx.BatchStat))
        zeros = jax.tree.map(jnp.zeros_like, layout.stats.pack(stats))
        weights = Weights(layout.params.pack(params), zeros)
        average = jax.tree.map(jnp.zeros_like, weights) if training.ema_decay else None
        return TrainState(jnp.int32(0), weights, optimizer.init(weights.params), average)

    return init


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
