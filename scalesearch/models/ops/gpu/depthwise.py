"""Depthwise convolution on a GPU, and both its gradients.

Neighbouring outputs read the same inputs: a thread computes a tile of them, loads each input once and uses it for all.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from scalesearch.models.ops.base import Maps
from scalesearch.models.ops.gpu.program import VALUES, Parts, call, countable, load, store
from scalesearch.models.ops.shift.taps import output_size

Kernel = Float[Array, "k k 1 c"]

_TILE = (2, 2)
"""Rows and columns of outputs that a thread computes, at least."""

_LARGEST_KERNEL, _LARGEST_STRIDE = 7, 4

_VECTOR = 8


def serves(x: Maps, kernel: Kernel, stride: int) -> bool:
    """Whether `depthwise` supports these: larger kernels and strides would not stay in registers."""
    return countable(x) and kernel.shape[0] <= _LARGEST_KERNEL and stride <= _LARGEST_STRIDE


Uses = dict[tuple[int, int], list[tuple[int, int]]]
"""For each input of a tile the outputs that it serves (their numbers, row by row), each with its tap (likewise)."""


def geometry(kernel_size: int, stride: int, *, transposed: bool) -> tuple[tuple[int, int], tuple[int, int], Uses]:
    """What a tile of outputs reads for a k×k kernel with padding k // 2, the same for every tile: (tile, step, uses).

    With `tile` = (rows, columns), tile (a, b) computes the outputs (a·rows + r, b·columns + c) and reads the inputs
    (a·step₀ + i, b·step₁ + j), those of `uses`, column after column. Transposed, it is the gradient of the input: its
    outputs are those of the map that was convolved.
    """
    rows, columns = (stride * -(-least // stride) for least in _TILE) if transposed else _TILE
    padding = kernel_size // 2
    uses: Uses = {}

    def source(output: int, tap: int) -> int | None:
        if not transposed:
            return output * stride + tap - padding
        place, rest = divmod(output + padding - tap, stride)
        return None if rest else place

    for column, e in _pairs(columns, kernel_size):
        for row, d in _pairs(rows, kernel_size):
            i, j = source(row, d), source(column, e)
            if i is not None and j is not None:
                uses.setdefault((i, j), []).append((row * columns + column, d * kernel_size + e))
    step = (rows // stride, columns // stride) if transposed else (rows * stride, columns * stride)
    return (rows, columns), step, dict(sorted(uses.items(), key=lambda item: item[0][::-1]))


def _pairs(outputs: int, taps: int) -> list[tuple[int, int]]:
    return [(output, tap) for output in range(outputs) for tap in range(taps)]


class _Map:
    """Tiles of a batch of maps; `at` are their numbers, one per lane, and `step` is the distance to the next one."""

    def __init__(
        self, ref: Any, shape: tuple[int, ...], at: jax.Array, tiles: tuple[int, ...], step: tuple[int, int]
    ) -> None:
        self.ref, self.shape = ref, shape
        image, rest = at // (tiles[1] * tiles[2]), at % (tiles[1] * tiles[2])
        self.inside, self.first = image < tiles[0], image * shape[1]
        self.row, self.column = rest // tiles[2] * step[0], rest % tiles[2] * step[1]
        self.rows: dict[int, tuple[jax.Array, jax.Array]] = {}
        self.columns: dict[int, tuple[jax.Array, jax.Array]] = {}

    def at(self, i: int, j: int, channel: jax.Array, real: jax.Array | None) -> tuple[Any, jax.Array]:
        """Where (i, j) of each tile lies (lanes, channels), and which of these exist; `real` masks the channels."""
        _, height, width, count = self.shape
        if i not in self.rows:
            row = self.row + i
            self.rows[i] = (self.first + row) * (width * count), self.inside & (row >= 0) & (row < height)
        if j not in self.columns:
            column = self.column + j
            self.columns[j] = column * count, (column >= 0) & (column < width)
        (start, row_valid), (offset, column_valid) = self.rows[i], self.columns[j]
        mask, where = (row_valid & column_valid)[:, None], (start + offset)[:, None] + channel
        return self.ref.at[where], jnp.broadcast_to(mask, where.shape) if real is None else mask & real


def _tiles(outputs: tuple[int, ...], tile: tuple[int, int]) -> tuple[int, ...]:
    """The number of tiles: images, down, across."""
    return outputs[0], *(pl.cdiv(size, edge) for size, edge in zip(outputs[1:3], tile, strict=True))


def _gather(x: jax.Array, kernel: jax.Array, outputs: tuple[int, ...], stride: int, *, transposed: bool) -> jax.Array:
    """The convolution of `x`, or transposed, whose result has the shape `outputs`.

    A lane is a tile of a few neighbouring channels; lanes run over the channels of a tile, then over the tiles.
    """
    count, shape = x.shape[3], x.shape
    tile, step, all_uses = geometry(kernel.shape[0], stride, transposed=transposed)
    tiles, vector = _tiles(outputs, tile), math.gcd(count, _VECTOR)
    lanes, groups = VALUES // vector, count // vector

    def body(x: Any, kernel: Any, y: Any) -> None:
        lane = pl.program_id(0) * lanes + jnp.arange(lanes)
        channel = (lane % groups * vector)[:, None] + jnp.arange(vector)[None]
        at = lane // groups
        source, target = _Map(x, shape, at, tiles, step), _Map(y, outputs, at, tiles, tile)
        totals = dict.fromkeys(range(math.prod(tile)), jnp.zeros((lanes, vector), jnp.float32))
        weights: dict[int, jax.Array] = {}
        column = None
        for (i, j), uses in all_uses.items():
            if j != column:  # the taps of a column of inputs are few enough to stay in registers
                column, weights = j, {}
            values = load(*source.at(i, j, channel, None))
            for output, tap in uses:
                if tap not in weights:
                    weights[tap] = load(kernel.at[tap * count + channel], None)
                totals[output] = totals[output] + values * weights[tap]
        for output, total in totals.items():
            where, mask = target.at(*divmod(output, tile[1]), channel, None)
            store(where, total.astype(y.dtype), mask)

    grid = (pl.cdiv(math.prod(tiles) * groups, lanes),)
    return call(body, [(math.prod(outputs), x.dtype)], grid, x, kernel)[0].reshape(outputs)


def _kernel_gradient(x: jax.Array, g: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    taps, count, outputs, shape = kernel.shape[0] ** 2, x.shape[3], g.shape, x.shape
    tile, tile_step, all_uses = geometry(kernel.shape[0], stride, transposed=False)
    tiles = _tiles(outputs, tile)
    split = Parts(math.prod(tiles), count, VALUES if taps <= 9 else VALUES // 2)  # each value has a sum a tap

    def body(x: Any, g: Any, sums: Any) -> None:
        channel, real = split.channel()
        first, part = split.at(0), pl.program_id(1)

        def add(step: Any, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            at = first + step * split.lanes
            source, target = _Map(x, shape, at, tiles, tile_step), _Map(g, outputs, at, tiles, tile)
            places = [divmod(output, tile[1]) for output in range(math.prod(tile))]
            slopes = [load(*target.at(*place, channel, real)) for place in places]
            new = list(totals)
            for (i, j), uses in all_uses.items():
                values = load(*source.at(i, j, channel, real))
                for output, tap in uses:
                    new[tap] = new[tap] + values * slopes[output]
            return tuple(new)

        totals = lax.fori_loop(0, split.steps, add, (jnp.zeros((split.lanes, split.number), jnp.float32),) * taps)
        for tap, total in enumerate(totals):
            store(sums.at[(part * taps + tap) * count + channel], total.sum(0, keepdims=True), real)

    sums = call(body, [(split.parts * taps * count, jnp.float32)], split.grid, x, g)[0]
    gradient: jax.Array = sums.reshape(split.parts, *kernel.shape).sum(0).astype(kernel.dtype)
    return gradient


@partial(jax.custom_vjp, nondiff_argnums=(2,))
@jax.named_scope("depthwise")
def depthwise(x: Maps, kernel: Kernel, stride: int) -> Float[Array, "n ho wo c"]:
    """`Operations.depthwise` for what `serves` admits."""
    n, h, w, c = x.shape
    return _gather(x, kernel, (n, output_size(h, stride), output_size(w, stride), c), stride, transposed=False)


def _depthwise_backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    with jax.named_scope("depthwise input gradient"):
        dx = _gather(g, kernel, x.shape, stride, transposed=True)
    with jax.named_scope("depthwise kernel gradient"):
        return dx, _kernel_gradient(x, g, kernel, stride)


depthwise.defvjp(lambda x, kernel, stride: (depthwise(x, kernel, stride), (x, kernel)), _depthwise_backward)
