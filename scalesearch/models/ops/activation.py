"""Activation functions and their derivatives."""

from __future__ import annotations

from typing import Literal, TypeAlias

import jax
from jax import numpy as jnp

from scalesearch.scaling.architecture import Activation

ActivationOrNone: TypeAlias = Activation | Literal["none"]
"""The activation after a normalisation; `none` after the last convolution of a residual branch."""


def activate(x: jax.Array, activation: ActivationOrNone) -> jax.Array:
    """swish(x) = x · σ(x) (arXiv:1710.05941), relu, relu6 = min(relu, 6), hard_swish, gelu, or x itself.

    hard_swish(x) = x · relu6(x + 3) / 6 (arXiv:1905.02244 §5.2). gelu(x) = x · Φ(x) (arXiv:1606.08415), by the error
    function and not by an approximation.

    >>> activate(jnp.asarray([-1.0, 3.0, 9.0]), "relu6").tolist()
    [0.0, 3.0, 6.0]
    """
    if activation == "swish":
        return x * jax.nn.sigmoid(x)
    if activation == "relu":
        return jnp.maximum(x, 0)
    if activation == "relu6":
        return jnp.clip(x, 0, 6)
    if activation == "hard_swish":
        return x * hard_sigmoid(x)
    if activation == "gelu":
        return jax.nn.gelu(x, approximate=False)
    return x


def hard_sigmoid(x: jax.Array) -> jax.Array:
    """relu6(x + 3) / 6 (arXiv:1905.02244 §5.2).

    >>> hard_sigmoid(jnp.asarray([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return jnp.clip(x + 3, 0, 6) / 6


def activation_slope(x: jax.Array, activation: ActivationOrNone) -> jax.Array:
    """Derivative of `activate`; 0 at the kinks of relu and relu6, and outside the kinks at those of hard_swish.

    >>> activation_slope(jnp.asarray([-1.0, 3.0, 9.0]), "relu6").tolist()
    [0.0, 1.0, 0.0]
    """
    if activation == "swish":
        # σ(x) = ½ + ½ tanh(x/2). XLA would recognise an exponential as that of the forward pass and keep its maps
        # until here: a third more memory, and slower to read than to compute again (benchmarks/, 2026-11-25).
        half = 0.5 * x
        t = jnp.tanh(half)
        return (0.5 + 0.5 * t) * (1 + half * (1 - t))
    if activation == "relu":
        return (x > 0).astype(x.dtype)
    if activation == "relu6":
        return ((x > 0) & (x < 6)).astype(x.dtype)
    if activation == "hard_swish":
        return jnp.where(x <= -3, 0, jnp.where(x >= 3, 1, (2 * x + 3) / 6)).astype(x.dtype)
    if activation == "gelu":
        return jax.scipy.stats.norm.cdf(x) + x * jax.scipy.stats.norm.pdf(x)
    return jnp.ones_like(x)
