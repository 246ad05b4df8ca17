"""Depthwise convolution as a sum of shifted products, with gradients of the same form.

y[n,i,j,c] = Σ_{d,e} x[n, i·s + d − p, j·s + e − p, c] · w[d,e,0,c]. XLA turns a grouped convolution's kernel
gradient into a dense C×C convolution on a CPU; these forms do the k² products and nothing else.
"""

from __future__ import annotations

from functools import partial

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.models.taps import Tap, forward_taps, gradient_phases, interleave, output_size, pad_map, take

Maps = Float[Array, "n h w c"]
Kernel = Float[Array, "k k 1 c"]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: Maps, kernel: Kernel, stride: int) -> Float[Array, "n ho wo c"]:
    """Depthwise convolution with SAME padding; ho = ⌈h / stride⌉, wo likewise."""
    size = (output_size(x.shape[1], stride), output_size(x.shape[2], stride))
    padding = kernel.shape[0] // 2
    return _weighted_sum(pad_map(x, padding, padding), kernel, forward_taps(kernel.shape[0]), size, stride)


def _weighted_sum(
    padded: jax.Array, kernel: jax.Array, taps: tuple[Tap, ...], size: tuple[int, int], stride: int
) -> jax.Array:
    if not taps:  # a phase that no output reads, where the stride exceeds the kernel
        return jnp.zeros((padded.shape[0], *size, padded.shape[3]), padded.dtype)
    total = None
    for tap in taps:
        product = take(padded, tap.start, size, stride) * kernel[tap.kernel[0], tap.kernel[1], 0]
        total = product if total is None else total + product
    assert total is not None
    return total


def _forward(x: Maps, kernel: Kernel, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _input_gradient(g, kernel, stride, (x.shape[1], x.shape[2])), _kernel_gradient(x, g, kernel, stride)


def _input_gradient(g: jax.Array, kernel: jax.Array, stride: int, size: tuple[int, int]) -> jax.Array:
    low, high, phase_taps = gradient_phases(kernel.shape[0], stride)
    padded = pad_map(g, low, high)
    out = (g.shape[1], g.shape[2])
    return interleave([[_weighted_sum(padded, kernel, taps, out, 1) for taps in row] for row in phase_taps], size)


def _kernel_gradient(x: jax.Array, g: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Σ over images, rows and columns of tap · g, one image after the other: k² sums that stay in the cache."""
    size, kernel_size = (g.shape[1], g.shape[2]), kernel.shape[0]
    padded = pad_map(x, kernel_size // 2, kernel_size // 2)

    def add(total: jax.Array, image: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        source, gradient = image
        sums = [
            jnp.sum(take(source[None], tap.start, size, stride)[0] * gradient, axis=(0, 1))
            for tap in forward_taps(kernel_size)
        ]
        return total + jnp.stack(sums).reshape(total.shape), None

    return lax.scan(add, jnp.zeros_like(kernel), (padded, g))[0]


depthwise.defvjp(_forward, _backward)
