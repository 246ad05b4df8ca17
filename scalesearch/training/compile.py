"""The compiled functions of a network: its initial state, one whole epoch of training, its evaluation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from scalesearch.data.feed import EpochData, Feed
from scalesearch.data.stream import CHUNKS_AT_ONCE, ImageStream
from scalesearch.models.network import Network
from scalesearch.models.ops.base import Operations
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.own import OwnNetwork, build_network
from scalesearch.runtime.programs import compile_in_background
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.training import TrainingSection
from scalesearch.training.batch import batch_of
from scalesearch.training.chunks import chunk_functions, in_chunks
from scalesearch.training.draws import EpochDraws, draws_of_epoch, init_generator
from scalesearch.training.memory import PLAIN, MemoryPlan, bytes_needed
from scalesearch.training.optimizer import build_optimizer
from scalesearch.training.parallel.data import Shardings
from scalesearch.training.parts import Parts, in_parts, jitted_part, no_losses, whole_epoch
from scalesearch.training.schedule import Schedule, learning_rate
from scalesearch.training.state import Layout, TrainState, Weights, layout_of, weights_of
from scalesearch.training.step import Means, evaluate, train_step
from scalesearch.training.transfer import check_transfer

QUICK_UPDATES = 5e7
"""Steps of a seed's training times parameters, up to which its epoch is compiled quickly. An update of a parameter
then takes 2 ns more, and compilation 0.8 s less (2 CPU cores, AMD EPYC with AVX2, 2026-11-26)."""


@dataclass(frozen=True, slots=True)
class Program:
    """The compiled functions of one network.

    `init(seeds) -> state`; `epoch(state, data, draws, schedule) -> (state, mean training loss)`, which
    consumes the state that it is given; `evaluate(state, data) -> means` over the validation split. Seeds, draws,
    schedule and data are arguments, so one program serves them all. `seeds` is a scalar, or (S,): then states, draws
    and results have that leading axis. `parts` trains an epoch part after part; None if it was compiled whole.
    """

    init: Callable[..., TrainState]
    epoch: Callable[..., tuple[TrainState, Float[Array, "*s"]]]
    evaluate: Callable[..., Means]
    bytes_needed: int
    parts: Parts | None = None


def compile_program(
    spec: ArchitectureSpec,
    operations: Operations,
    training: TrainingSection,
    data: Feed,
    schedule: Schedule,
    seeds: UInt32[np.ndarray, "*s"],
    plan: MemoryPlan = PLAIN,
    shardings: Shardings | None = None,
    *,
    quick: tuple[bool, bool] | None = None,
    parts: bool = False,
) -> Program:
    """Compiles a network for the shapes of `data` and `seeds`, its functions in parallel threads.

    Args:
        spec: the network.
        operations: what it computes with.
        training: the schedule. Its learning rates and lengths are arguments of the program, not compiled in.
        data: the data, for their shapes.
        schedule: the schedule as arguments of a step.
        seeds: one seed, or a vector of seeds that train side by side.
        plan: how a step is laid out in memory.
        shardings: where arguments lie on several devices; the program moves them there.
        quick: whether to prefer a short compilation to fast code, for the epoch and for evaluation; None chooses.
        parts: whether one seed's epoch can be trained in parts. That of a stream always can.
    """
    # The network, and the shapes of its state.
    check_transfer(spec, training)
    network = build_network(
        spec,
        operations=operations,
        dropout=training.dropout,
        rng=init_generator(0),
        precision=training.precision,
        remat=plan.remat,
        stochastic_depth=training.stochastic_depth,
    )
    weights = weights_of(network)
    init, compiled_init, state = init_function(spec, training, weights, seeds.shape)
    draws = draws_of_epoch(seeds, 0, training, images=len(data.labels))

    # Its functions, the one that takes longest first.
    if isinstance(data, ImageStream):
        layout = layout_of(network)
        step = partial(train_epoch, training=training, layout=layout, micro_batches=plan.micro_batches)
        chunk = chunk_functions(step, layout, plan.micro_batches, data, state, draws, schedule, shardings)
        epoch, epoch_arguments = chunk.epoch, chunk.epoch_arguments
        judge, judge_arguments = chunk.evaluate, chunk.evaluate_arguments
    else:
        epoch, judge = jitted_functions(network, training, plan, shardings, together=seeds.ndim > 0)
        epoch_arguments, judge_arguments = (state, data, draws, schedule), (state, data)
        if parts:
            layout, number = layout_of(network), np.int32(0)
            step = partial(train_epoch, training=training, layout=layout, micro_batches=plan.micro_batches)
            epoch = jitted_part(step, shardings)
            epoch_arguments = (state, no_losses(draws), data, draws, schedule, number, number)
    updates = sum(vector.size for vector in weights.params) * draws.order.shape[-2] * training.epochs
    quick_epoch, quick_evaluate = quick or compiles_quickly(operations, updates)
    futures = [
        compile_in_background(epoch, epoch_arguments, quick=quick_epoch),
        compile_in_background(judge, judge_arguments, quick=quick_evaluate),
        compiled_init,
    ]
    wait(futures)
    compiled_epoch, compiled_judge, _ = (future.result() for future in futures)
    needed = max(map(bytes_needed, (compiled_epoch, compiled_judge)))
    if isinstance(data, ImageStream):
        waiting = (CHUNKS_AT_ONCE - 1) * data.chunk_bytes
        chunks, judged = in_chunks(compiled_epoch, compiled_judge, shardings)
        return Program(init, whole_epoch(chunks), judged, needed + waiting, chunks)
    if parts:
        cut = in_parts(compiled_epoch)
        return Program(init, whole_epoch(cut), compiled_judge, needed, cut)
    return Program(init, compiled_epoch, compiled_judge, needed)


def compiles_quickly(operations: Operations, updates: float) -> tuple[bool, bool]:
    """Whether to prefer a short compilation, for the epoch and for evaluation.

    Only if what runs long is precompiled. The epoch's optimiser is not: `updates` counts the updates of single
    parameters in a seed's training.
    """
    return operations.precompiled and updates <= QUICK_UPDATES, operations.precompiled


def jitted_functions(
    network: Network | OwnNetwork,
    training: TrainingSection,
    plan: MemoryPlan = PLAIN,
    shardings: Shardings | None = None,
    *,
    together: bool = False,
) -> tuple[Any, Any]:
    """`Program.epoch` and `Program.evaluate` of `network`, jitted; for a vector of seeds if `together`."""
    layout, parts = layout_of(network), plan.micro_batches
    epoch: Any = partial(train_epoch, training=training, layout=layout, micro_batches=parts)
    judge: Any = partial(evaluate, layout=layout, micro_batches=parts)
    if together:
        epoch = jax.vmap(epoch, in_axes=(0, None, 0, None))
        judge = jax.vmap(judge, in_axes=(0, None))
    if shardings is None:
        return jax.jit(epoch, donate_argnums=0), jax.jit(judge)
    whole, *varied = shardings
    inputs = (whole, *varied, whole)
    return (
        jax.jit(epoch, donate_argnums=0, in_shardings=inputs, out_shardings=whole),
        jax.jit(judge, in_shardings=inputs[:2], out_shardings=whole),
    )


def init_function(
    spec: ArchitectureSpec, training: TrainingSection, like: Weights, shape: tuple[int, ...] = ()
) -> tuple[Callable[[UInt32[np.ndarray, "*s"]], TrainState], Future[jax.stages.Compiled], TrainState]:
    """What builds the state before the first step, its program while it compiles, and the shapes of that state.

    Args:
        spec: the network.
        training: the schedule, for its optimiser and moving average.
        like: weights of a network of `spec`, for their shapes.
        shape: of the seeds; (S,) gives every array that leading axis.
    """
    optimizer = build_optimizer(training)

    def begin(weights: Weights) -> TrainState:
        weights = jax.tree.map(jnp.copy, weights)  # the epoch consumes its state, which must not be numpy's memory
        blank = jax.tree.map(jnp.zeros_like, weights)
        # Statistics that the step averages forget their start; those that a network of the user's own averages do not.
        start = weights if spec.module else Weights(weights.params, blank.stats)
        return TrainState(jnp.int32(0), start, optimizer.init(weights.params), blank if training.ema_decay else None)

    function = jax.vmap(begin) if shape else begin
    structure: Any = jax.ShapeDtypeStruct
    inputs = jax.tree.map(lambda each: structure((*shape, *each.shape), each.dtype), like)
    state = jax.eval_shape(function, inputs)
    program = compile_in_background(jax.jit(function), (inputs,), quick=True)

    def init(seeds: UInt32[np.ndarray, "*s"]) -> TrainState:
        # Initial values do not depend on the operations.
        generators = map(init_generator, np.atleast_1d(seeds).tolist())
        networks = (
            build_network(spec, operations=NativeOperations(), dropout=training.dropout, rng=generator)
            for generator in generators
        )
        weights = jax.tree.map(lambda *each: np.stack(each) if shape else each[0], *map(weights_of, networks))
        begun: TrainState = program.result()(weights)
        return begun

    return init, program, state


def train_epoch(
    state: TrainState,
    data: EpochData,
    draws: EpochDraws,
    schedule: Schedule,
    *,
    training: TrainingSection,
    layout: Layout,
    micro_batches: int,
) -> tuple[TrainState, Float[Array, ""]]:
    """A step for each set of draws: the state after the last one and the mean of their losses."""
    draws_in_step = bool(training.dropout or training.stochastic_depth or jax.tree.leaves(layout.streams))

    def step(state: TrainState, drawn: Any) -> tuple[TrainState, Float[Array, ""]]:
        with jax.named_scope("augmentation"):
            images, labels = batch_of(data, drawn, training)
        return train_step(
            state,
            images,
            labels,
            jax.random.wrap_key_data(drawn.dropout, impl="threefry2x32") if draws_in_step else None,
            learning_rate(schedule, state.step),
            training,
            layout,
            micro_batches,
        )

    state, losses = jax.lax.scan(step, state, draws)
    return state, losses.mean()
