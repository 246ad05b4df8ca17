"""What XLA does not do well on a GPU, in Pallas: depthwise convolution, and the sums of normalisation's gradient.

Neighbouring outputs of a convolution read the same inputs: a thread computes a tile of them, loads each input once and
uses it for all. Sums are float32 whatever the maps are. On a CPU the kernels are interpreted, for tests.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from scalesearch.models import normalise as plain
from scalesearch.models.taps import output_size
from scalesearch.scaling.architecture import Activation

Maps = Float[Array, "n h w c"]
PerChannel = Float[Array, "c"]
Kernel = Float[Array, "k k 1 c"]

MOST_VALUES = 2**31 - 1
"""Of a map: the kernels count places with 32 bits."""

_TILE = (2, 2)
"""Rows and columns of outputs that a thread computes, at least."""

_VALUES = 1024
"""Values that a program reads at a time: a warp's thread eight of them, neighbouring channels."""

_LARGEST_KERNEL, _LARGEST_STRIDE = 7, 4

_LEAST_CAPABILITY = 8.0
"""Of XLA's Triton: Ampere."""

_VECTOR = 8
_WARPS = 4

_PROGRAMS = 1024
"""Of a sum over images, at least: each sums a part of them."""


def problem() -> str | None:
    """Why the kernels cannot be had, or None."""
    try:
        from jax.experimental.pallas import triton  # noqa: F401
    except ImportError:
        return f"jax {jax.__version__} has no Pallas for Triton"
    if jax.default_backend() != "gpu":
        return None
    device = jax.local_devices()[0]
    capability = str(getattr(device, "compute_capability", None))  # "9.0" of NVIDIA, "gfx942" of AMD
    if re.fullmatch(r"\d+\.\d+", capability) and float(capability) >= _LEAST_CAPABILITY:
        return None
    return (
        f"the kernels need compute capability {_LEAST_CAPABILITY} of NVIDIA, but {device.device_kind} has {capability}"
    )


def serves(x: Maps, kernel: Kernel, stride: int) -> bool:
    """Whether `depthwise` is for these: larger kernels and strides would not stay in registers."""
    return x.size <= MOST_VALUES and kernel.shape[0] <= _LARGEST_KERNEL and stride <= _LARGEST_STRIDE


class Use(NamedTuple):
    """An output of a tile (its number, row by row) and the tap (likewise) by which it reads an input."""

    output: int
    tap: int


class Geometry(NamedTuple):
    """What a tile of `tile` = (rows, columns) outputs reads, the same for every tile.

    Tile (a, b) computes the outputs (a·rows + r, b·columns + c) and reads the inputs (a·step₀ + i, b·step₁ + j), where
    `uses[i, j]` tells of the outputs and taps that each serves, column after column. Transposed, it is the gradient of
    the input: its outputs are those of the map that was convolved.
    """

    tile: tuple[int, int]
    step: tuple[int, int]
    uses: dict[tuple[int, int], list[Use]]


def geometry(kernel_size: int, stride: int, *, transposed: bool) -> Geometry:
    """The geometry of a k×k kernel with padding k // 2."""
    rows, columns = (stride * -(-least // stride) for least in _TILE) if transposed else _TILE
    padding = kernel_size // 2
    uses: dict[tuple[int, int], list[Use]] = {}

    def source(output: int, tap: int) -> int | None:
        if not transposed:
            return output * stride + tap - padding
        place, rest = divmod(output + padding - tap, stride)
        return None if rest else place

    for column, e in _pairs(columns, kernel_size):
        for row, d in _pairs(rows, kernel_size):
            i, j = source(row, d), source(column, e)
            if i is not None and j is not None:
                uses.setdefault((i, j), []).append(Use(row * columns + column, d * kernel_size + e))
    step = (rows // stride, columns // stride) if transposed else (rows * stride, columns * stride)
    return Geometry((rows, columns), step, dict(sorted(uses.items(), key=lambda item: item[0][::-1])))


def _pairs(outputs: int, taps: int) -> list[tuple[int, int]]:
    return [(output, tap) for output in range(outputs) for tap in range(taps)]


class _Map:
    """Tiles of a batch of maps; `at` are their numbers, one a lane, and `step` is how far the next one is."""

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
        """Where (i, j) of the tiles lies, (lanes, channels), and which of it exists; of the channels `real` do."""
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


def _load(where: Any, mask: jax.Array | None) -> jax.Array:
    from jax.experimental.pallas import triton

    values: jax.Array = triton.load(where, mask=mask, other=None if mask is None else 0.0)
    return values.astype(jnp.float32)


def _store(where: Any, values: jax.Array, mask: jax.Array | None) -> None:
    from jax.experimental.pallas import triton

    triton.store(where, values, mask=mask)


def _call(body: Any, results: list[tuple[int, Any]], grid: tuple[int, ...], *arrays: jax.Array) -> list[jax.Array]:
    """What `body` writes, flat arrays of these lengths and types, given flat `arrays`."""
    from jax.experimental.pallas import triton

    structure: Any = jax.ShapeDtypeStruct
    call = pl.pallas_call(
        body,
        out_shape=[structure((length,), dtype) for length, dtype in results],
        grid=grid,
        interpret=jax.default_backend() == "cpu",
        compiler_params=triton.CompilerParams(num_warps=_WARPS, num_stages=1),
    )
    made: list[jax.Array] = call(*(array.reshape(-1) for array in arrays))
    return made


def _tiles(outputs: tuple[int, ...], tile: tuple[int, int]) -> tuple[int, ...]:
    """How many tiles there are: images, down, across."""
    return outputs[0], *(pl.cdiv(size, own) for size, own in zip(outputs[1:3], tile, strict=True))


def _gather(x: jax.Array, kernel: jax.Array, outputs: tuple[int, ...], stride: int, *, transposed: bool) -> jax.Array:
    """The convolution of `x`, or transposed, whose result has the shape `outputs`.

    A lane is a tile of a few neighbouring channels; lanes run over the channels of a tile, then over the tiles.
    """
    count, shape = x.shape[3], x.shape
    own = geometry(kernel.shape[0], stride, transposed=transposed)
    tiles, vector = _tiles(outputs, own.tile), math.gcd(count, _VECTOR)
    lanes, groups = _VALUES // vector, count // vector

    def body(x: Any, kernel: Any, y: Any) -> None:
        lane = pl.program_id(0) * lanes + jnp.arange(lanes)
        channel = (lane % groups * vector)[:, None] + jnp.arange(vector)[None]
        tile = lane // groups
        source, target = _Map(x, shape, tile, tiles, own.step), _Map(y, outputs, tile, tiles, own.tile)
        totals = dict.fromkeys(range(math.prod(own.tile)), jnp.zeros((lanes, vector), jnp.float32))
        weights: dict[int, jax.Array] = {}
        column = None
        for (i, j), uses in own.uses.items():
            if j != column:  # the taps of a column of inputs are few enough to stay in registers
                column, weights = j, {}
            values = _load(*source.at(i, j, channel, None))
            for output, tap in uses:
                if tap not in weights:
                    weights[tap] = _load(kernel.at[tap * count + channel], None)
                totals[output] = totals[output] + values * weights[tap]
        for output, total in totals.items():
            where, mask = target.at(*divmod(output, own.tile[1]), channel, None)
            _store(where, total.astype(y.dtype), mask)

    grid = (pl.cdiv(math.prod(tiles) * groups, lanes),)
    return _call(body, [(math.prod(outputs), x.dtype)], grid, x, kernel)[0].reshape(outputs)


class _Parts(NamedTuple):
    """How items of `width` channels are summed: in `parts` of `steps` × `lanes`, `strips` of `number` channels.

    Strips are the faster axis of the grid, so that who reads one line of memory does so at one time.
    """

    width: int
    lanes: int
    number: int
    steps: int
    parts: int
    strips: int

    @classmethod
    def of(cls, items: int, width: int, values: int) -> _Parts:
        """A program reads `values` at a time, of few channels that do not exist."""
        # 16 channels of bfloat16 are a quarter of a line of memory: they count as if they were more
        number = min((16, 32, 64), key=lambda some: (pl.cdiv(width, some) * some * (1.25 if some == 16 else 1), -some))
        lanes, strips = values // number, pl.cdiv(width, number)
        parts = min(pl.cdiv(items, lanes), pl.cdiv(_PROGRAMS, strips))
        return cls(width, lanes, number, pl.cdiv(items, lanes * parts), parts, strips)

    @property
    def grid(self) -> tuple[int, int]:
        """Of the programs."""
        return self.strips, self.parts

    def channel(self) -> tuple[jax.Array, jax.Array | None]:
        """(1, number): a program's channels, and which of them exist, None if all do."""
        channel = pl.program_id(0) * self.number + jnp.arange(self.number)[None]
        return channel, channel < self.width if self.width % self.number else None

    def at(self, step: Any) -> jax.Array:
        """(lanes,): the items of a step."""
        items: jax.Array = (pl.program_id(1) * self.steps + step) * self.lanes + jnp.arange(self.lanes)
        return items


def _kernel_gradient(x: jax.Array, g: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    taps, count, outputs, shape = kernel.shape[0] ** 2, x.shape[3], g.shape, x.shape
    own = geometry(kernel.shape[0], stride, transposed=False)
    tiles = _tiles(outputs, own.tile)
    split = _Parts.of(math.prod(tiles), count, _VALUES if taps <= 9 else _VALUES // 2)  # each value has a sum a tap

    def body(x: Any, g: Any, sums: Any) -> None:
        channel, real = split.channel()
        first, part = split.at(0), pl.program_id(1)

        def add(step: Any, totals: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            at = first + step * split.lanes
            source, target = _Map(x, shape, at, tiles, own.step), _Map(g, outputs, at, tiles, own.tile)
            places = [divmod(output, own.tile[1]) for output in range(math.prod(own.tile))]
            slopes = [_load(*target.at(*place, channel, real)) for place in places]
            new = list(totals)
            for (i, j), uses in own.uses.items():
                values = _load(*source.at(i, j, channel, real))
                for output, tap in uses:
                    new[tap] = new[tap] + values * slopes[output]
            return tuple(new)

        totals = lax.fori_loop(0, split.steps, add, (jnp.zeros((split.lanes, split.number), jnp.float32),) * taps)
        for tap, total in enumerate(totals):
            _store(sums.at[(part * taps + tap) * count + channel], total.sum(0, keepdims=True), real)

    sums = _call(body, [(split.parts * taps * count, jnp.float32)], split.grid, x, g)[0]
    gradient: jax.Array = sums.reshape(split.parts, *kernel.shape).sum(0).astype(kernel.dtype)
    return gradient


@partial(jax.custom_vjp, nondiff_argnums=(2,))
@jax.named_scope("depthwise")
def depthwise(x: Maps, kernel: Kernel, stride: int) -> Float[Array, "n ho wo c"]:
    """As `models.depthwise.depthwise`, for what `serves` admits."""
    n, h, w, c = x.shape
    return _gather(x, kernel, (n, output_size(h, stride), output_size(w, stride), c), stride, transposed=False)


def _depthwise_backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    with jax.named_scope("depthwise input gradient"):
        dx = _gather(g, kernel, x.shape, stride, transposed=True)
    with jax.named_scope("depthwise kernel gradient"):
        return dx, _kernel_gradient(x, g, kernel, stride)


depthwise.defvjp(lambda x, kernel, stride: (depthwise(x, kernel, stride), (x, kernel)), _depthwise_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    x: Maps, scale: PerChannel, bias: PerChannel, activation: Activation | Literal["none"]
) -> tuple[Maps, PerChannel, PerChannel]:
    """As `models.normalise.normalise`; its gradient does not store the slope, which XLA would, in float32."""
    return plain.normalise(x, scale, bias, activation)


def _normalise_forward(x: Maps, scale: PerChannel, bias: PerChannel, activation: Activation | Literal["none"]) -> Any:
    y, mean, variance = normalise(x, scale, bias, activation)
    return (y, mean, variance), (x, scale, bias, mean, variance)


@jax.named_scope("normalise gradient")
def _normalise_backward(activation: Activation | Literal["none"], saved: Any, gradients: Any) -> Any:
    x, scale, bias, mean, variance = saved
    g, _, _ = gradients  # none flows into the statistics
    gain = scale * lax.rsqrt(variance + plain.EPSILON)
    shift = bias - mean * gain
    dz = g * plain.activation_slope(x * gain + shift, activation)
    return plain.gradients_of(x, dz, _slope_sums(x, g, gain, shift, activation), scale, mean, variance)


def _slope(z: jax.Array, activation: Activation | Literal["none"]) -> jax.Array:
    """As `activation_slope`; the exponential is an instruction of a GPU, the hyperbolic tangent takes twenty."""
    if activation != "swish":
        return plain.activation_slope(z, activation)
    gate = jax.nn.sigmoid(z)
    return gate * (1 + z * (1 - gate))


def _slope_sums(
    x: jax.Array, g: jax.Array, gain: jax.Array, shift: jax.Array, activation: Activation | Literal["none"]
) -> tuple[jax.Array, jax.Array]:
    """Per channel the sums of dz = g · activation′(gain · x + shift) and of dz · x."""
    count = x.shape[3]
    items = x.size // count
    split = _Parts.of(items, count, _VALUES)

    def body(x: Any, g: Any, gain: Any, shift: Any, plain_sums: Any, weighted_sums: Any) -> None:
        channel, real = split.channel()
        first, part = split.at(0), pl.program_id(1)
        own_gain, own_shift = (_load(each.at[channel], real) for each in (gain, shift))

        def add(step: Any, totals: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            at = (first + step * split.lanes)[:, None]
            where = at * count + channel
            mask = jnp.broadcast_to(at < items, where.shape) if real is None else (at < items) & real
            values = _load(x.at[where], mask)
            dz = _load(g.at[where], mask) * _slope(values * own_gain + own_shift, activation)
            return totals[0] + dz, totals[1] + dz * values

        zeros = jnp.zeros((split.lanes, split.number), jnp.float32)
        for sums, total in zip(
            (plain_sums, weighted_sums), lax.fori_loop(0, split.steps, add, (zeros, zeros)), strict=True
        ):
            _store(sums.at[part * count + channel], total.sum(0, keepdims=True), real)

    sums = _call(body, [(split.parts * count, jnp.float32)] * 2, split.grid, x, g, gain, shift)
    first, second = (each.reshape(split.parts, count).sum(0) for each in sums)
    return first, second


normalise.defvjp(_normalise_forward, _normalise_backward)
