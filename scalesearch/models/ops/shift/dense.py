"""Dense k×k convolution as one matrix product: the k² shifted slices side by side, times the kernel.

Gradients are products of the same form: XLA's convolutions fall off their fast path inside a CPU loop
(https://github.com/jax-ml/jax/issues/12868), matrix products do not.
"""

from __future__ import annotations

from functools import partial

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.models.ops.base import Maps
from scalesearch.models.ops.shift.taps import Tap, forward_taps, gradient_phases, interleave, output_size, pad_map, take

Kernel = Float[Array, "k k c d"]


@jax.named_scope("pointwise")
def pointwise(x: Maps, kernel: Float[Array, "1 1 c d"], stride: int) -> Float[Array, "n ho wo d"]:
    """1×1 convolution: a matrix product over the positions that the stride keeps."""
    kept = x if stride == 1 else x[:, ::stride, ::stride]
    return _product(kept, kernel[0, 0])


def _product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], matrix.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
@jax.named_scope("dense")
def dense(x: Maps, kernel: Kernel, stride: int) -> Float[Array, "n ho wo d"]:
    """Dense convolution with SAME padding; ho = ⌈h / stride⌉, wo likewise."""
    return _product(_patches(x, kernel.shape[0], stride), kernel.reshape(-1, kernel.shape[3]))


def _patches(x: jax.Array, kernel_size: int, stride: int) -> jax.Array:
    """(n, ho, wo, k²·c): what each output reads, in the order of the kernel's rows."""
    size = (output_size(x.shape[1], stride), output_size(x.shape[2], stride))
    padded = pad_map(x, kernel_size // 2, kernel_size // 2)
    return jnp.concatenate([take(padded, start, size, stride) for _, start in forward_taps(kernel_size)], axis=3)


def _forward(x: Maps, kernel: Kernel, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return dense(x, kernel, stride), (x, kernel)


@jax.named_scope("dense gradient")
def _backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    patches = _patches(x, kernel.shape[0], stride)  # recomputed: k² times the input is too much to keep
    kernel_gradient = patches.reshape(-1, patches.shape[3]).T @ g.reshape(-1, g.shape[3])
    return _input_gradient(g, kernel, stride, (x.shape[1], x.shape[2])), kernel_gradient.reshape(kernel.shape)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def grouped(x: Maps, kernel: Float[Array, "k k g d"], stride: int) -> Float[Array, "n ho wo d"]:
    """Dense convolution in groups of g channels each; see `Operations.grouped`."""
    return _grouped(x, kernel, stride)


@jax.named_scope("grouped")
def _grouped(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    k, _, channels, width = kernel.shape
    groups = x.shape[3] // channels
    patches = _patches(x, k, stride)
    each = patches.reshape(*patches.shape[:3], k * k, groups, channels)
    rows = kernel.reshape(k * k, channels, groups, width // groups)
    return jnp.einsum("nhwkgc,kcgd->nhwgd", each, rows).reshape(*patches.shape[:3], width)


def _grouped_backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    # patches recomputed, as for `dense`; XLA drops the product of the forward pass, which nothing reads
    _, pull = jax.vjp(lambda x, kernel: _grouped(x, kernel, stride), *saved)
    slopes: tuple[jax.Array, jax.Array] = pull(g)
    return slopes


grouped.defvjp(lambda x, kernel, stride: (grouped(x, kernel, stride), (x, kernel)), _grouped_backward)


def _input_gradient(g: jax.Array, kernel: jax.Array, stride: int, size: tuple[int, int]) -> jax.Array:
    low, high, phase_taps = gradient_phases(kernel.shape[0], stride)
    padded = pad_map(g, low, high)
    out = (g.shape[1], g.shape[2])

    def phase(taps: tuple[Tap, ...]) -> jax.Array:
        if not taps:  # a phase that no output reads, if the stride exceeds the kernel
            return jnp.zeros((*g.shape[:3], kernel.shape[2]), g.dtype)
        slices = jnp.concatenate([take(padded, start, out, 1) for _, start in taps], axis=3)
        rows = jnp.concatenate([kernel[position].T for position, _ in taps], axis=0)
        return _product(slices, rows)

    return interleave([[phase(taps) for taps in row] for row in phase_taps], size)


dense.defvjp(_forward, _backward)
