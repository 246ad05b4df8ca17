"""Batch normalisation and the activation behind it as one operation with one gradient.

    μ = mean(x), v = mean((x − μ)²), x̂ = (x − μ) / √(v + ε), y = activation(scale · x̂ + bias)

per channel, over images and positions (arXiv:1502.03167). Only x and the two statistics are kept for the
gradient.
"""

from __future__ import annotations

from functools import partial

import jax
from jax import lax
from jax import numpy as jnp

from scalesearch.models.ops.activation import ActivationOrNone, activate, activation_slope
from scalesearch.models.ops.base import EPSILON, Maps, PerChannel

_AXES = (0, 1, 2)


def statistics(x: Maps) -> tuple[PerChannel, PerChannel]:
    """Mean and biased variance per channel in float32, from the sums of x and x².

    XLA:CPU sums products as it reads them, but writes out x − μ before it sums its square. The difference
    E[x²] − E[x]² loses digits if the mean far exceeds the spread: at μ/√v = 100 the variance is accurate to 1e-3.
    """
    count = x.shape[0] * x.shape[1] * x.shape[2]
    x = x.astype(jnp.float32)
    mean = jnp.sum(x, axis=_AXES) / count
    return mean, jnp.maximum(jnp.sum(x * x, axis=_AXES) / count - mean * mean, 0)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
@jax.named_scope("normalise")
def normalise(
    x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone
) -> tuple[Maps, PerChannel, PerChannel]:
    """y, mean and variance. The two statistics are for evaluation: they carry no gradient."""
    mean, variance = statistics(x)
    gain = scale * lax.rsqrt(variance + EPSILON)
    z = x * gain + (bias - mean * gain)
    # a third faster than z · σ(z) on a CPU; exp may overflow to inf, which gives 0 here but NaN under autodiff
    y = z / (1 + jnp.exp(-z)) if activation == "swish" else activate(z, activation)
    return y.astype(x.dtype), mean, variance


def _forward(
    x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    y, mean, variance = normalise(x, scale, bias, activation)
    return (y, mean, variance), (x, scale, bias, mean, variance)


@jax.named_scope("normalise gradient")
def _backward(
    activation: ActivationOrNone,
    saved: tuple[jax.Array, ...],
    gradients: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, bias, mean, variance = saved
    g, _, _ = gradients  # none flows into the statistics
    gain = scale * lax.rsqrt(variance + EPSILON)
    # written once: two sums and dx read it, and each would compute the exponential again
    dz = _as_array(g * activation_slope(x * gain + (bias - mean * gain), activation))
    return gradients_of(x, dz, (jnp.sum(dz, axis=_AXES), jnp.sum(dz * x, axis=_AXES)), scale, mean, variance)


def gradients_of(
    x: Maps,
    dz: Maps,
    sums: tuple[PerChannel, PerChannel],
    scale: PerChannel,
    mean: PerChannel,
    variance: PerChannel,
) -> tuple[Maps, PerChannel, PerChannel]:
    """dx, and the gradients of scale and bias, from dz before the activation and the `sums` of dz and dz · x."""
    inverse = lax.rsqrt(variance + EPSILON)
    gain, bias_gradient = scale * inverse, sums[0]
    scale_gradient = (sums[1] - mean * bias_gradient) * inverse
    count = x.shape[0] * x.shape[1] * x.shape[2]
    pull = gain * inverse * scale_gradient / count
    dx = gain * dz - pull * x + (pull * mean - gain * bias_gradient / count)
    return dx.astype(x.dtype), scale_gradient, bias_gradient


def _as_array(x: jax.Array) -> jax.Array:
    """`x` computed as a separate array, not fused into its readers."""
    separate: jax.Array = lax.optimization_barrier(x)  # type: ignore[no-untyped-call]  # jax has no types here
    return separate


normalise.defvjp(_forward, _backward)
