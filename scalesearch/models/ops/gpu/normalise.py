"""Batch normalisation on a GPU: the sums of its gradient."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from jax.experimental import pallas as pl

from scalesearch.models.ops.activation import ActivationOrNone, activation_slope
from scalesearch.models.ops.base import EPSILON, Maps, PerChannel
from scalesearch.models.ops.gpu.program import VALUES, Parts, call, load, store
from scalesearch.models.ops.shift import normalise as plain


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone
) -> tuple[Maps, PerChannel, PerChannel]:
    """As `shift.normalise.normalise`, but the gradient does not store the slope, which XLA would, in float32."""
    return plain.normalise(x, scale, bias, activation)


def _normalise_forward(x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone) -> Any:
    y, mean, variance = normalise(x, scale, bias, activation)
    return (y, mean, variance), (x, scale, bias, mean, variance)


@jax.named_scope("normalise gradient")
def _normalise_backward(activation: ActivationOrNone, saved: Any, gradients: Any) -> Any:
    x, scale, bias, mean, variance = saved
    g, _, _ = gradients  # none flows into the statistics
    gain = scale * lax.rsqrt(variance + EPSILON)
    shift = bias - mean * gain
    dz = g * activation_slope(x * gain + shift, activation)
    return plain.gradients_of(x, dz, slope_sums(x, g, gain, shift, activation), scale, mean, variance)


def sigmoid_slope(z: jax.Array, activation: ActivationOrNone) -> jax.Array:
    """As `activation_slope`, by σ: a GPU has an instruction for the exponential, and takes twenty for the tangent."""
    if activation != "swish":
        return activation_slope(z, activation)
    gate = jax.nn.sigmoid(z)
    return gate * (1 + z * (1 - gate))


def slope_sums(
    x: jax.Array, g: jax.Array, gain: jax.Array, shift: jax.Array, activation: ActivationOrNone
) -> tuple[jax.Array, jax.Array]:
    """Per channel the sums of dz = g · activation′(gain · x + shift) and of dz · x."""
    count = x.shape[3]
    items = x.size // count
    split = Parts(items, count, VALUES)

    def body(x: Any, g: Any, gain: Any, shift: Any, plain_sums: Any, weighted_sums: Any) -> None:
        channel, real = split.channel()
        first, part = split.at(0), pl.program_id(1)
        channel_gain, channel_shift = (load(each.at[channel], real) for each in (gain, shift))

        def add(step: Any, totals: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            at = (first + step * split.lanes)[:, None]
            where = at * count + channel
            mask = jnp.broadcast_to(at < items, where.shape) if real is None else (at < items) & real
            values = load(x.at[where], mask)
            dz = load(g.at[where], mask) * sigmoid_slope(values * channel_gain + channel_shift, activation)
            return totals[0] + dz, totals[1] + dz * values

        zeros = jnp.zeros((split.lanes, split.number), jnp.float32)
        for sums, total in zip(
            (plain_sums, weighted_sums), lax.fori_loop(0, split.steps, add, (zeros, zeros)), strict=True
        ):
            store(sums.at[part * count + channel], total.sum(0, keepdims=True), real)

    sums = call(body, [(split.parts * count, jnp.float32)] * 2, split.grid, x, g, gain, shift)
    first, second = (each.reshape(split.parts, count).sum(0) for each in sums)
    return first, second


normalise.defvjp(_normalise_forward, _normalise_backward)
