"""Depthwise convolution as a sum of shifted products, with gradients of the same form.

y[n,i,j,c] = Σ_{d,e} x[n, i·s + d − p, j·s + e − p, c] · w[d,e,0,c]. XLA turns a grouped convolution's kernel
gradient into a dense C×C convolution on a CPU; these do the k² products and nothing else.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.models.ops.base import Maps
from scalesearch.models.ops.shift.taps import Tap, forward_taps, gradient_phases, interleave, output_size, pad_map, take

Kernel = Float[Array, "k k 1 c"]

_UNROLLED = 16
"""Outputs per step of the kernel gradient. Measured on AVX2, 128×12×12×96, 5×5: 12 outputs take 21 ms, 24 take 5 ms."""


@partial(jax.custom_vjp, nondiff_argnums=(2,))
@jax.named_scope("depthwise")
def depthwise(x: Maps, kernel: Kernel, stride: int) -> Float[Array, "n ho wo c"]:
    """Depthwise convolution with SAME padding; ho = ⌈h / stride⌉, wo likewise."""
    size = (output_size(x.shape[1], stride), output_size(x.shape[2], stride))
    padding = kernel.shape[0] // 2
    return _weighted_sum(pad_map(x, padding, padding), kernel, forward_taps(kernel.shape[0]), size, stride)


def _weighted_sum(
    padded: jax.Array, kernel: jax.Array, taps: tuple[Tap, ...], size: tuple[int, int], stride: int
) -> jax.Array:
    if not taps:  # a phase that no output reads, if the stride exceeds the kernel
        return jnp.zeros((padded.shape[0], *size, padded.shape[3]), padded.dtype)
    total = None
    for (row, column), start in taps:
        term = take(padded, start, size, stride) * kernel[row, column, 0]
        total = term if total is None else total + term
    assert total is not None
    return total


def _forward(x: Maps, kernel: Kernel, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _input_gradient(g, kernel, stride, (x.shape[1], x.shape[2])), _kernel_gradient(x, g, kernel, stride)


@jax.named_scope("depthwise input gradient")
def _input_gradient(g: jax.Array, kernel: jax.Array, stride: int, size: tuple[int, int]) -> jax.Array:
    low, high, phase_taps = gradient_phases(kernel.shape[0], stride)
    padded = pad_map(g, low, high)
    out = (g.shape[1], g.shape[2])
    return interleave([[_weighted_sum(padded, kernel, taps, out, 1) for taps in row] for row in phase_taps], size)


@jax.named_scope("depthwise kernel gradient")
def _kernel_gradient(x: jax.Array, g: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Σ over outputs of g times the k×k window that the output reads, accumulated tile after tile of outputs.

    Adding windows to a (k, k, c) total is one vectorised loop over c, where the k² sums over positions are
    k² reductions that XLA:CPU computes one scalar at a time.
    """
    size, (images, height, width, c) = kernel.shape[0], g.shape
    padded = pad_map(x, size // 2, size // 2)
    tile = gradient_tile(images, height, width)
    tiles = (images // tile[0], height // tile[1], width // tile[2])
    window = tuple((count - 1) * stride + size for count in tile[1:])
    wide = jnp.promote_types(x.dtype, jnp.float32)  # the sum has thousands of terms

    def add(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        image, row, column = start
        source = lax.dynamic_slice(padded, (image, row * stride, column * stride, 0), (tile[0], *window, c))
        slopes = lax.dynamic_slice(g, (image, row, column, 0), (*tile, c))
        source, slopes = source.astype(wide), slopes.astype(wide)
        for b, i, j in product(*map(range, tile)):
            top, left = i * stride, j * stride
            total = total + source[b, top : top + size, left : left + size] * slopes[b, i, j]
        return total, None

    total = jnp.zeros((size, size, c), wide)
    # where each tile begins, counted before the loop: inside, each division would be a separate kernel
    starts = jnp.stack(jnp.unravel_index(jnp.arange(math.prod(tiles)), tiles), axis=1) * jnp.asarray(tile)
    return lax.scan(add, total, starts)[0].reshape(kernel.shape).astype(kernel.dtype)


def gradient_tile(images: int, height: int, width: int) -> tuple[int, int, int]:
    """Images, rows and columns of outputs that one step of the kernel gradient unrolls: divisors of their counts.

    The smallest product of at least `_UNROLLED`; all of them if there are fewer.
    """
    columns = _divisor(width, _UNROLLED)
    rows = _divisor(height, -(-_UNROLLED // columns))
    together = _divisor(images, -(-_UNROLLED // columns))
    # whole rows of several images if the height has no divisor that fits
    if together < rows and columns * together >= _UNROLLED:
        return together, 1, columns
    return _divisor(images, -(-_UNROLLED // (columns * rows))), rows, columns


def _divisor(count: int, least: int) -> int:
    return next((divisor for divisor in range(1, count) if count % divisor == 0 and divisor >= least), count)


depthwise.defvjp(_forward, _backward)
