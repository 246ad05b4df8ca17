"""One optimiser step and the evaluation of the validation split, as pure functions of a state."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from scalesearch.data.feed import EpochData, standardise
from scalesearch.study.training import TrainingSection
from scalesearch.training.average import update_average
from scalesearch.training.mix import Labels, label_loss
from scalesearch.training.optimizer import build_optimizer
from scalesearch.training.packing import Packed
from scalesearch.training.state import Layout, TrainState, Weights, evaluated_weights
from scalesearch.training.transfer import apply_scaled, is_frozen, only_trained, rate_factors, without_gradient

Totals: TypeAlias = tuple[Array, ...]
"""The sum of losses and how many images are classified right; then, if classes are weighed, the weight of these."""

Means: TypeAlias = tuple[Float[Array, "*s"], ...]
"""Cross-entropy in nats and the fraction classified right; then, if classes are weighed, balanced accuracy."""


def train_step(
    state: TrainState,
    images: Float[Array, "n h w c"],
    labels: Labels,
    dropout_key: Key[Array, ""] | None,
    rate: Float[Array, ""],
    training: TrainingSection,
    layout: Layout,
    micro_batches: int = 1,
) -> tuple[TrainState, Float[Array, ""]]:
    """One step on a batch: the next state and the batch's mean loss.

    Args:
        state: weights, optimiser and moving average before the step.
        images: the batch, standardised.
        labels: the class of each image, or the two of a mixture.
        dropout_key: for dropout and stochastic depth; None if the network has neither.
        rate: the learning rate.
        training: the optimiser, label smoothing, and the decay of the averages; in a transfer, what trains how fast.
        layout: how weights become a network.
        micro_batches: parts of the batch (a divisor of n), one after the other (`training.memory.MemoryPlan`). Then
            gradient, loss and batch statistics are means over the parts, each normalised by its own statistics.
    """
    stats = layout.stats.unpack(state.weights.stats)
    params = layout.params.unpack(state.weights.params)
    factors, frozen = rate_factors(training, layout.params), is_frozen(training)

    def loss_of(params: Any, images: Array, labels: Labels, key: Any) -> tuple[Float[Array, ""], Any]:
        if factors is not None and frozen:
            network = layout.network(without_gradient(params, factors), stats)
            logits = network(images, train=True, dropout_key=key, frozen=True)
        else:
            network = layout.network(params, stats)
            logits = network(images, train=True, dropout_key=key)
        losses = label_loss(layout.operations, logits, labels, training.label_smoothing)
        return losses.mean(), nnx.state(network, nnx.BatchStat)

    def gradient(images: Any, labels: Any, key: Any) -> tuple[Float[Array, ""], Packed, Packed]:
        # The gradient is taken of the tree and then packed: through `unpack` it would be a sum of padded vectors.
        (loss, new_stats), slopes = jax.value_and_grad(loss_of, has_aux=True)(params, images, labels, key)
        return loss, layout.stats.pack(new_stats), layout.params.pack(slopes)

    # Loss, batch statistics and gradient, of the whole batch or as the mean of its parts.
    if micro_batches == 1:
        loss, batch_stats, gradients = gradient(images, labels, dropout_key)
    else:
        keys = None if dropout_key is None else jax.random.split(dropout_key, micro_batches)
        parts = jax.tree.map(lambda each: each.reshape(micro_batches, -1, *each.shape[1:]), (images, labels))
        zeros = jax.tree.map(jnp.zeros_like, (jnp.float32(0), state.weights.stats, state.weights.params))
        sums, _ = jax.lax.scan(
            lambda sums, part: (jax.tree.map(jnp.add, sums, gradient(*part)), None), zeros, (*parts, keys)
        )
        loss, batch_stats, gradients = jax.tree.map(lambda total: total / micro_batches, sums)

    # The optimiser.
    with jax.named_scope("optimizer"):
        updates, optimizer_state = build_optimizer(training).update(
            gradients, state.optimizer, state.weights.params, learning_rate=rate
        )
        if factors is None:
            new_params = optax.apply_updates(state.weights.params, updates)
        else:
            new_params = apply_scaled(layout.params, factors, state.weights.params, updates)

    # Running statistics and the moving average. A running variance that began at 1 would still hold 0.9^60 = 0.2 % of
    # it after 60 steps, and maps of a fresh network vary far less than that: this average forgets its start at once.
    steps = state.step + 1
    with jax.named_scope("average"):
        averaged = update_average(state.weights.stats, batch_stats, steps, training.statistics_decay)
        running = batch_stats if layout.averages else averaged
        weights = Weights(new_params, state.weights.stats if frozen else running)
        average = None if state.average is None else update_average(state.average, weights, steps, training.ema_decay)
        if average is not None and factors is not None and frozen:
            average = Weights(only_trained(layout.params, factors, average.params, new_params), weights.stats)
    return TrainState(steps, weights, optimizer_state, average), loss


def evaluate(state: TrainState, data: EpochData, layout: Layout, micro_batches: int = 1) -> Means:
    """Exact means over the validation split.

    Padding images, whose label is negative, count nowhere. `micro_batches` cut each validation batch if they divide it.
    """
    balanced = () if data.class_weights is None else (jnp.float32(0),)
    totals = add_batches((jnp.float32(0), jnp.int32(0), *balanced), state, data, layout, micro_batches)
    return means_of(totals, (data.val_labels >= 0).sum())


def means_of(totals: Totals, count: Int[Array, ""]) -> Means:
    """The means over `count` images."""
    loss, right, *balanced = totals
    # Weights are rounded, and may add up to a little more than 1.
    return (loss / count, right / count, *(jnp.minimum(weight, 1) for weight in balanced))


def add_batches(totals: Totals, state: TrainState, data: EpochData, layout: Layout, micro_batches: int) -> Totals:
    """`totals` and the sums over the validation batches of `data`, which may be a part of all."""
    weights = evaluated_weights(state)
    params, stats = layout.params.unpack(weights.params), layout.stats.unpack(weights.stats)

    def batch(totals: Totals, part: tuple[Array, Array]) -> tuple[Totals, None]:
        images, labels = part
        network = layout.network(params, stats)
        logits = network(standardise(images, data.mean, data.std), train=False)
        real = labels >= 0
        loss = jnp.where(real, layout.operations.loss(logits, jnp.maximum(labels, 0), 0.0), 0).sum()
        right = real & (logits.argmax(1) == labels)
        sums = [loss, right.sum()]
        if data.class_weights is not None:
            sums.append(jnp.where(right, data.class_weights[labels], 0).sum())
        return tuple(total + each for total, each in zip(totals, sums, strict=True)), None

    size = data.val_labels.shape[1]
    size = size // micro_batches if size % micro_batches == 0 else size
    parts = data.val_images.reshape(-1, size, *data.val_images.shape[2:]), data.val_labels.reshape(-1, size)
    totals, _ = jax.lax.scan(batch, totals, parts)
    return totals
