"""What all Pallas programs share: loading, storing, the call, and the division of a long sum into parts.

Sums are float32 whatever the maps are. On a CPU the kernels are interpreted, for tests.
"""

from __future__ import annotations

import re
from typing import Any

import jax
from jax import numpy as jnp
from jax.experimental import pallas as pl

MOST_VALUES = 2**31 - 1
"""The most values of a map: positions have 32 bits."""

VALUES = 1024
"""Values that a program reads at a time: each thread of a warp reads eight neighbouring channels."""

_LEAST_CAPABILITY = 8.0
"""The least that XLA's Triton supports: Ampere."""

_WARPS = 4

_PROGRAMS = 1024
"""The least number of programs for a sum over images: each sums a part of them."""


def problem() -> str | None:
    """Why the kernels cannot be used, or None."""
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


def countable(x: jax.Array) -> bool:
    """Whether the kernels can count the values of `x`."""
    return x.size <= MOST_VALUES


def load(where: Any, mask: jax.Array | None) -> jax.Array:
    """The values at `where` as float32; zero where `mask` is false."""
    from jax.experimental.pallas import triton

    values: jax.Array = triton.load(where, mask=mask, other=None if mask is None else 0.0)
    return values.astype(jnp.float32)


def store(where: Any, values: jax.Array, mask: jax.Array | None) -> None:
    """Writes `values` at `where` if `mask` is true."""
    from jax.experimental.pallas import triton

    triton.store(where, values, mask=mask)


def call(body: Any, results: list[tuple[int, Any]], grid: tuple[int, ...], *arrays: jax.Array) -> list[jax.Array]:
    """The results of `body`: flat arrays of these lengths and types, computed from `arrays`, which it sees flat."""
    from jax.experimental.pallas import triton

    structure: Any = jax.ShapeDtypeStruct
    program = pl.pallas_call(
        body,
        out_shape=[structure((length,), dtype) for length, dtype in results],
        grid=grid,
        interpret=jax.default_backend() == "cpu",
        compiler_params=triton.CompilerParams(num_warps=_WARPS, num_stages=1),
    )
    made: list[jax.Array] = program(*(array.reshape(-1) for array in arrays))
    return made


class Parts:
    """How items of `width` channels are summed: in `parts` of `steps` × `lanes`, `strips` of `number` channels.

    Strips are the faster axis of the grid, so that programs which read the same line of memory run at the same time.

    Args:
        items: what is summed.
        width: channels of an item.
        values: how many a program reads at a time, few of them beyond the last channel.
    """

    def __init__(self, items: int, width: int, values: int) -> None:
        # 16 channels of bfloat16 are a quarter of a line of memory: they count as if they were more
        number = min((16, 32, 64), key=lambda some: (pl.cdiv(width, some) * some * (1.25 if some == 16 else 1), -some))
        self.width, self.number = width, number
        self.lanes, self.strips = values // number, pl.cdiv(width, number)
        self.parts = min(pl.cdiv(items, self.lanes), pl.cdiv(_PROGRAMS, self.strips))
        self.steps = pl.cdiv(items, self.lanes * self.parts)

    @property
    def grid(self) -> tuple[int, int]:
        """The grid of the Pallas call."""
        return self.strips, self.parts

    def channel(self) -> tuple[jax.Array, jax.Array | None]:
        """(1, number): a program's channels, and a mask of those that exist; None if all do."""
        channel = pl.program_id(0) * self.number + jnp.arange(self.number)[None]
        return channel, channel < self.width if self.width % self.number else None

    def at(self, step: Any) -> jax.Array:
        """(lanes,): the items of a step."""
        items: jax.Array = (pl.program_id(1) * self.steps + step) * self.lanes + jnp.arange(self.lanes)
        return items
