"""Geometry of SAME convolution as shifted slices: padding, taps, and the phases of a strided gradient.

A kernel of odd size k at stride s on a map of size n pads p = k // 2 zeros on each side, as torch does,
so that output i reads the inputs i·s + d − p for d = 0 … k − 1 and the output has size ⌈n / s⌉.
"""

from __future__ import annotations

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

Tap = tuple[tuple[int, int], tuple[int, int]]
"""One kernel position (row, column) and where, in a padded map, the slice that it multiplies begins."""


def output_size(size: int, stride: int) -> int:
    """⌈size / stride⌉."""
    return -(-size // stride)


def pad_map(x: Float[Array, "n h w c"], low: int, high: int, value: float = 0.0) -> Float[Array, "n hp wp c"]:
    """`x` with `low` rows and columns of `value` before the map and `high` after it, as a separate array.

    The barrier keeps XLA from computing the padding inside every tap, which would put a bounds check into
    the innermost loop.
    """
    if low == 0 and high == 0:
        return x
    edges = (low, high, 0)
    padded = lax.pad(x, jnp.asarray(value, x.dtype), ((0, 0, 0), edges, edges, (0, 0, 0)))
    separate: jax.Array = lax.optimization_barrier(padded)  # type: ignore[no-untyped-call]  # jax has no types here
    return separate


def take(
    padded: Float[Array, "n hp wp c"], start: tuple[int, int], size: tuple[int, int], stride: int
) -> Float[Array, "n h w c"]:
    """The slice of `size` rows and columns from `start`, every `stride`-th one."""
    n, _, _, c = padded.shape
    (row, column), (height, width) = start, size
    limits = (n, row + (height - 1) * stride + 1, column + (width - 1) * stride + 1, c)
    return lax.slice(padded, (0, row, column, 0), limits, (1, stride, stride, 1))


def forward_taps(kernel_size: int) -> tuple[Tap, ...]:
    """The k² taps of a convolution on a map padded by k // 2."""
    positions = [(row, column) for row in range(kernel_size) for column in range(kernel_size)]
    return tuple((position, position) for position in positions)


def gradient_phases(kernel_size: int, stride: int) -> tuple[int, int, tuple[tuple[tuple[Tap, ...], ...], ...]]:
    """How the gradient of the input is gathered from the gradient of the output, in s² phases: (low, high, taps).

    Input rows m = s·t + a of phase a receive from the output rows i = t + (a + p − d) / s, for the kernel
    rows d that make this a whole number. `taps[a][b]` lists those of phase (a, b) on an output gradient
    padded by `low` and `high`; every phase has ⌈n / s⌉ rows, of which the last may lie outside the input.
    """
    padding = kernel_size // 2
    offsets = tuple(
        tuple(((a + padding - d) // stride, d) for d in range(kernel_size) if (a + padding - d) % stride == 0)
        for a in range(stride)
    )
    reach = [offset for phase in offsets for offset, _ in phase]
    low, high = max(0, -min(reach)), max(0, *reach)
    taps = tuple(
        tuple(
            tuple(((d, e), (low + row, low + column)) for row, d in rows for column, e in columns)
            for columns in offsets
        )
        for rows in offsets
    )
    return low, high, taps


def interleave(phases: list[list[jax.Array]], size: tuple[int, int]) -> jax.Array:
    """The map of `size` whose rows ≡ a and columns ≡ b (mod s) are those of `phases[a][b]`."""
    stride = len(phases)
    if stride == 1:
        return phases[0][0]
    n, rows, columns, c = phases[0][0].shape
    # (n, t, a, u, b, c), then rows t·s + a and columns u·s + b
    merged = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    merged = merged.reshape(n, rows * stride, columns * stride, c)
    return merged[:, : size[0], : size[1]]
