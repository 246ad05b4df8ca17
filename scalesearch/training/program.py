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
from jaxtyping import Array, Float, Int, UInt32

from scalesearch.config import TrainingSection
from scalesearch.models.network import Network
from scalesearch.models.ops import Forms
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.training.augment import augment
from scalesearch.training.keys import Stream, stream_key
from scalesearch.training.optimizer import build_optimizer
from scalesearch.training.packing import packing_of
from scalesearch.training.pipeline import EpochData, standardise
from scalesearch.training.schedule import Schedule, learning_rate
from scalesearch.training.step import Evaluation, Layout, TrainState, Weights, evaluate, train_step

# Drawing a hundred kernels once is not worth optimising, and the optimiser is most of what compiling it costs.
_INIT_OPTIONS = {"cpu": {"xla_backend_optimization_level": 0}}


@dataclass(frozen=True, slots=True)
class Program:
    """`init(seeds) -> state`, `epoch(state, data, order, schedule, seeds) -> (state, mean training loss)` and
    `evaluate(state, data) -> Evaluation`, compiled.

    `epoch` consumes the state that it is given. Seeds, order, schedule and data are arguments, so one
    program serves them all. `seeds` is a scalar; or (S,), and then states and results have that leading axis.
    """

    init: Callable[..., TrainState]
    epoch: Callable[..., tuple[TrainState, Float[Array, ...]]]
    evaluate: Callable[..., Evaluation]
    compile_seconds: float


def compile_program(
    spec: ArchitectureSpec,
    forms: Forms,
    training: TrainingSection,
    data: EpochData,
    schedule: Schedule,
    seeds: UInt32[Array, ...],
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
        epoch = jax.vmap(epoch, in_axes=(0, None, 0, None, 0))
        judge = jax.vmap(judge, in_axes=(0, None))
    state = jax.eval_shape(init, seeds)
    order = jax.eval_shape(partial(order_of_epoch, data=data, batch_size=training.batch_size), seeds, jnp.int32(0))
    options = _INIT_OPTIONS.get(jax.default_backend())
    # The longest first. Lowering is Python and holds the interpreter; compiling is not and does not.
    futures = [
        _in_background(jax.jit(epoch, donate_argnums=0).lower(state, data, order, schedule, seeds).compile),
        _in_background(jax.jit(judge).lower(state, data).compile),
        _in_background(partial(jax.jit(init).lower(seeds).compile, compiler_options=options)),
    ]
    wait(futures)
    compiled_epoch, compiled_judge, compiled_init = (future.result() for future in futures)
    return Program(compiled_init, compiled_epoch, compiled_judge, time.perf_counter() - start)


def order_of_epoch(
    seeds: UInt32[Array, ...], epoch: Int[Array, ""], data: EpochData, batch_size: int
) -> Int[Array, "... steps batch"]:
    """Which training images each step sees: a permutation that seed and epoch alone choose, cut into batches."""
    permute = partial(_permutation, images=len(data.labels), batch_size=batch_size)
    return jax.vmap(permute, in_axes=(0, None))(seeds, epoch) if seeds.ndim else permute(seeds, epoch)


# A program of its own: sorting is slow to compile, and this one is the same for all candidates.
@partial(jax.jit, static_argnames=("images", "batch_size"))
def _permutation(
    seed: UInt32[Array, ""], epoch: Int[Array, ""], images: int, batch_size: int
) -> Int[Array, "steps batch"]:
    key = jax.random.fold_in(stream_key(seed, Stream.ORDER), epoch)
    steps = images // batch_size
    return jax.random.permutation(key, images)[: steps * batch_size].reshape(steps, batch_size)


def _build(seed: UInt32[Array, ""], spec: ArchitectureSpec, forms: Forms, dropout: float) -> Network:
    return Network(spec, forms=forms, dropout=dropout, rngs=nnx.Rngs(stream_key(seed, Stream.INIT)))


def _layout(spec: ArchitectureSpec, forms: Forms, dropout: float) -> Layout:
    network = nnx.eval_shape(partial(_build, spec=spec, forms=forms, dropout=dropout), jnp.uint32(0))
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    return Layout(graphdef, packing_of(params), packing_of(stats))


def _init_function(
    spec: ArchitectureSpec,
    forms: Forms,
    training: TrainingSection,
    layout: Layout,
    optimizer: optax.GradientTransformationExtraArgs,
) -> Callable[[UInt32[Array, ""]], TrainState]:
    def init(seed: UInt32[Array, ""]) -> TrainState:
        network = _build(seed, spec, forms, training.dropout)
        _, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
        zeros = jax.tree.map(jnp.zeros_like, layout.stats.pack(stats))
        weights = Weights(layout.params.pack(params), zeros)
        average = jax.tree.map(jnp.zeros_like, weights) if training.ema_decay else None
        return TrainState(jnp.int32(0), weights, optimizer.init(weights.params), average)

    return init


def _epoch_function(
    training: TrainingSection, layout: Layout, optimizer: optax.GradientTransformationExtraArgs
) -> Callable[..., tuple[TrainState, Float[Array, ""]]]:
    def epoch(
        state: TrainState,
        data: EpochData,
        order: Int[Array, "steps batch"],
        schedule: Schedule,
        seed: UInt32[Array, ""],
    ) -> tuple[TrainState, Float[Array, ""]]:
        augment_key, dropout_key = stream_key(seed, Stream.AUGMENT), stream_key(seed, Stream.DROPOUT)

        def step(state: TrainState, index: Int[Array, " batch"]) -> tuple[TrainState, Float[Array, ""]]:
            key = jax.random.fold_in(augment_key, state.step)
            images = augment(key, data.images[index], shift=training.shift, flip=training.flip)
            return train_step(
                state,
                standardise(images, data.mean, data.std),
                data.labels[index],
                jax.random.fold_in(dropout_key, state.step) if training.dropout else None,
                learning_rate(schedule, state.step),
                layout=layout,
                optimizer=optimizer,
                label_smoothing=training.label_smoothing,
                ema_decay=training.ema_decay,
            )

        state, losses = jax.lax.scan(step, state, order)
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
