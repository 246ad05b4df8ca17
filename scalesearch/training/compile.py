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
import optax
from flax import nnx
from jaxtyping import Array, Float, UInt32

from scalesearch.data.feed import EpochData, standardise
from scalesearch.models.network import Network
from scalesearch.models.ops.base import Operations
from scalesearch.models.ops.native import NativeOperations
from scalesearch.runtime.programs import compile_in_background
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.sections import TrainingSection
from scalesearch.training.augment import augment
from scalesearch.training.draws import EpochDraws, draws_of_epoch, init_generator
from scalesearch.training.memory import PLAIN, MemoryPlan, bytes_needed
from scalesearch.training.optimizer import build_optimizer
from scalesearch.training.packing import pack_on_host, packing_of
from scalesearch.training.parallel.data import Shardings
from scalesearch.training.schedule import Schedule, learning_rate
from scalesearch.training.step import Evaluation, Layout, TrainState, Weights, evaluate, train_step

QUICK_UPDATES = 5e7
"""Steps of a seed's training times parameters, up to which its epoch is compiled quickly. An update of a parameter
then takes 2 ns more, and compilation 0.8 s less (2 CPU cores, AMD EPYC with AVX2, 2026-11-26)."""


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
    bytes_needed: int


def compile_program(
    spec: ArchitectureSpec,
    operations: Operations,
    training: TrainingSection,
    data: EpochData,
    schedule: Schedule,
    seeds: UInt32[np.ndarray, "*s"],
    plan: MemoryPlan = PLAIN,
    shardings: Shardings | None = None,
    *,
    quick: tuple[bool, bool] | None = None,
) -> Program:
    """Compiles a network for the shapes of `data` and `seeds`, its functions in parallel threads.

    Args:
        spec: the network.
        operations: what it computes with.
        training: the schedule, whose numbers are arguments of the program.
        data: the data, or arrays of their shapes.
        schedule: the schedule as arguments of a step.
        seeds: one seed, or a vector of seeds that train side by side.
        plan: how a step is laid out in memory.
        shardings: where the arguments lie on several devices; they are moved there.
        quick: whether to prefer a short compilation to fast code, for the epoch and for evaluation; None to choose.
    """
    # The network, and the shapes of its state.
    optimizer = build_optimizer(training)
    network = Network(
        spec,
        operations=operations,
        dropout=training.dropout,
        rng=init_generator(0),
        precision=training.precision,
        remat=plan.remat,
    )
    weights = weights_of(network)
    init, compiled_init, state = init_function(spec, training, optimizer, weights, seeds.shape)
    draws = draws_of_epoch(seeds, 0, images=len(data.labels), batch_size=training.batch_size)

    # Its functions, the one that takes longest first.
    epoch, judge = functions_of(network, operations, training, optimizer, plan, shardings, together=seeds.ndim > 0)
    steps = draws.order.shape[-2] * training.epochs
    quick_epoch, quick_evaluate = quick or compiles_quickly(
        operations, steps * sum(vector.size for vector in weights.params)
    )
    futures = [
        compile_in_background(epoch, (state, data, draws, schedule), quick=quick_epoch),
        compile_in_background(judge, (state, data), quick=quick_evaluate),
        compiled_init,
    ]
    wait(futures)
    compiled_epoch, compiled_judge, _ = (future.result() for future in futures)
    needed = max(map(bytes_needed, (compiled_epoch, compiled_judge)))
    return Program(init, compiled_epoch, compiled_judge, needed)


def compiles_quickly(operations: Operations, updates: float) -> tuple[bool, bool]:
    """Whether the epoch and the evaluation of a network compile quickly, at `updates` of single parameters in all.

    Only where what runs long is compiled ahead: other operations depend on the loops that XLA makes.
    """
    return operations.precompiled and updates <= QUICK_UPDATES, operations.precompiled


def functions_of(
    network: Network,
    operations: Operations,
    training: TrainingSection,
    optimizer: optax.GradientTransformationExtraArgs,
    plan: MemoryPlan = PLAIN,
    shardings: Shardings | None = None,
    *,
    together: bool = False,
) -> tuple[Any, Any]:
    """`Program.epoch` and `Program.evaluate` of `network`, jitted; `together`: for a vector of seeds."""
    layout = layout_of(network, operations)
    epoch = _epoch_function(training, layout, optimizer, plan.micro_batches)
    judge = partial(evaluate, layout=layout, micro_batches=plan.micro_batches)
    if together:
        epoch = jax.vmap(epoch, in_axes=(0, None, 0, None))
        judge = jax.vmap(judge, in_axes=(0, None))
    if shardings is None:
        return jax.jit(epoch, donate_argnums=0), jax.jit(judge)
    whole = shardings.everywhere
    takes = (whole, shardings.data, shardings.draws, whole)
    return (
        jax.jit(epoch, donate_argnums=0, in_shardings=takes, out_shardings=whole),
        jax.jit(judge, in_shardings=takes[:2], out_shardings=whole),
    )


def layout_of(network: Network, operations: Operations) -> Layout:
    """How the variables of `network` are packed, and the rest of it."""
    graphdef, *states = nnx.split(network, nnx.Param, nnx.BatchStat)
    params, stats = (packing_of(state, operations) for state in states)
    return Layout(graphdef, params, stats, operations)


def weights_of(network: Network) -> Weights:
    """The initial values of `network`, packed, in the host's memory."""
    return Weights(*(pack_on_host(nnx.state(network, kind)) for kind in (nnx.Param, nnx.BatchStat)))


def init_function(
    spec: ArchitectureSpec,
    training: TrainingSection,
    optimizer: optax.GradientTransformationExtraArgs,
    like: Weights,
    shape: tuple[int, ...] = (),
) -> tuple[Callable[[UInt32[np.ndarray, "*s"]], TrainState], Future[jax.stages.Compiled], TrainState]:
    """What builds the state before the first step for seeds of `shape`, its program, and the shapes of that state.

    A vector of seeds gives every array that leading axis. `like` are weights of a network of `spec`, whatever their
    values.
    """

    def begin(weights: Weights) -> TrainState:
        weights = jax.tree.map(jnp.copy, weights)  # the epoch consumes its state, which must not be numpy's memory
        blank = jax.tree.map(jnp.zeros_like, weights)
        start = Weights(weights.params, blank.stats)
        return TrainState(jnp.int32(0), start, optimizer.init(weights.params), blank if training.ema_decay else None)

    function = jax.vmap(begin) if shape else begin
    structure: Any = jax.ShapeDtypeStruct
    takes = jax.tree.map(lambda each: structure((*shape, *each.shape), each.dtype), like)
    state = jax.eval_shape(function, takes)
    program = compile_in_background(jax.jit(function), (takes,), quick=True)

    def init(seeds: UInt32[np.ndarray, "*s"]) -> TrainState:
        generators = map(init_generator, np.atleast_1d(seeds).tolist())
        drawn = [
            weights_of(Network(spec, operations=NativeOperations(), dropout=training.dropout, rng=rng))
            for rng in generators
        ]
        weights = jax.tree.map(lambda *each: np.stack(each) if shape else each[0], *drawn)
        begun: TrainState = program.result()(weights)
        return begun

    return init, program, state


def _epoch_function(
    training: TrainingSection,
    layout: Layout,
    optimizer: optax.GradientTransformationExtraArgs,
    micro_batches: int,
) -> Callable[..., tuple[TrainState, Any]]:
    def epoch(
        state: TrainState, data: EpochData, draws: EpochDraws, schedule: Schedule
    ) -> tuple[TrainState, Float[Array, ""]]:
        def step(state: TrainState, drawn: Any) -> tuple[TrainState, Float[Array, ""]]:
            with jax.named_scope("augmentation"):
                images = augment(
                    data.images[drawn.order], drawn.offsets, drawn.mirrored, shift=training.shift, flip=training.flip
                )
                images = standardise(images, data.mean, data.std)
            return train_step(
                state,
                images,
                data.labels[drawn.order],
                jax.random.wrap_key_data(drawn.dropout, impl="threefry2x32") if training.dropout else None,
                learning_rate(schedule, state.step),
                layout=layout,
                optimizer=optimizer,
                label_smoothing=training.label_smoothing,
                ema_decay=training.ema_decay,
                micro_batches=micro_batches,
            )

        state, losses = jax.lax.scan(step, state, draws)
        return state, losses.mean()

    return epoch
