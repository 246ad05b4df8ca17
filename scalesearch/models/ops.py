"""The operations of a network in two forms, `shift` and `native`, behind one choice."""

from __future__ import annotations

from typing import Literal

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.models.dense import dense, pointwise
from scalesearch.models.depthwise import depthwise
from scalesearch.models.normalise import normalise, normalise_plain
from scalesearch.models.taps import forward_taps, output_size, pad_map, take
from scalesearch.scaling.architecture import Activation

Forms = Literal["shift", "native"]
Maps = Float[Array, "n h w c"]
PerChannel = Float[Array, "c"]


def choose_forms(setting: Literal["auto", "shift", "native"], backend: str) -> Forms:
    """The forms for a jax `backend` ("cpu", "gpu", "tpu"): `auto` is shift on a CPU and native elsewhere.

    Shift is many times faster on a CPU (benchmarks/); accelerators have convolution libraries of their own.
    """
    if setting != "auto":
        return setting
    return "shift" if backend == "cpu" else "native"


def convolve(x: Maps, kernel: Float[Array, "k k c d"], stride: int, forms: Forms) -> Float[Array, "n ho wo d"]:
    """Convolution with SAME padding of k // 2 on each side; ho = ⌈h / stride⌉."""
    if forms == "native":
        return _native(x, kernel, stride, groups=1)
    return pointwise(x, kernel, stride) if kernel.shape[0] == 1 else dense(x, kernel, stride)


def convolve_depthwise(
    x: Maps, kernel: Float[Array, "k k 1 c"], stride: int, forms: Forms
) -> Float[Array, "n ho wo c"]:
    """One k×k filter a channel, SAME padding of k // 2 on each side; ho = ⌈h / stride⌉."""
    if forms == "native":
        return _native(x, kernel, stride, groups=x.shape[3])
    return depthwise(x, kernel, stride)


def _native(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    padding = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def normalise_batch(
    x: Maps, scale: PerChannel, bias: PerChannel, activation: Activation | Literal["none"], forms: Forms
) -> tuple[Maps, PerChannel, PerChannel]:
    """activation(scale · x̂ + bias) with the statistics of the batch, and these: mean and biased variance."""
    if forms == "native":
        return normalise_plain(x, scale, bias, activation)
    return normalise(x, scale, bias, activation)


def max_pool(x: Maps, stride: int, forms: Forms) -> Float[Array, "n ho wo c"]:
    """Largest value of each 3×3 window, padded by 1 as in torchvision's ResNet; ho = ⌈h / stride⌉."""
    if forms == "native":
        window, strides, edges = (1, 3, 3, 1), (1, stride, stride, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        pooled: jax.Array = lax.reduce_window(x, -jnp.inf, lax.max, window, strides, edges)
        return pooled
    padded = pad_map(x, 1, 1, -jnp.inf)
    size = (output_size(x.shape[1], stride), output_size(x.shape[2], stride))
    first, *others = (take(padded, tap.start, size, stride) for tap in forward_taps(3))
    for other in others:
        # not jnp.maximum, whose gradient splits a tie (relu leaves many): the first largest takes it all, as in torch
        first = jnp.where(other > first, other, first)
    return first
