"""A stage: its first block, and its like blocks with stacked variables."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from scalesearch.models.blocks import BLOCKS
from scalesearch.models.ops import Forms
from scalesearch.scaling.architecture import Activation, StageSpec

Maps = Float[Array, "n h w c"]

MAX_UNROLLED = 8
"""Like blocks that are unrolled, at most. Measured on 2 CPU cores (14 blocks at 8 px, 2026-11-24): as a loop they
compile in 10.2 s instead of 11.4 s, and a step takes 1.4 times as long. A loop pays for deep stages only."""


class Stage(nnx.Module):
    """`depth` blocks; all but the first have one shape, and their variables a leading axis of depth − 1.

    Up to `MAX_UNROLLED` of them are unrolled in the compiled program; more run as a loop (`lax.scan`), so that a
    deep stage compiles as two blocks.
    """

    def __init__(
        self, stage: StageSpec, width_in: int, activation: Activation, *, forms: Forms, rng: np.random.Generator
    ) -> None:
        block = BLOCKS[stage.block]
        self.first = block(stage, width_in, stage.stride, activation, forms=forms, rng=rng)
        self.repeated = repeats = stage.depth - 1
        like = [block(stage, stage.width, 1, activation, forms=forms, rng=rng) for _ in range(repeats)]
        self.repeats = _stack(like) if like else None

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        x = self.first(x, train=train)
        if self.repeats is None:
            return x
        graphdef, *states = nnx.split(self.repeats, nnx.Param, nnx.BatchStat)
        params, stats = states

        def run(x: Maps, variables: tuple[Any, Any]) -> tuple[Maps, Any]:
            block = nnx.merge(graphdef, *variables)
            return block(x, train=train), nnx.state(block, nnx.BatchStat)

        x, stats = lax.scan(run, x, (params, stats), unroll=self.repeated <= MAX_UNROLLED)
        self.repeats = nnx.merge(graphdef, params, stats)  # new variables: those given belong to the caller
        return x


def _stack(blocks: list[Any]) -> Any:
    """One module whose variables are those of the like `blocks`, stacked."""
    graphdef, *_ = nnx.split(blocks[0])
    return nnx.merge(graphdef, jax.tree.map(lambda *leaves: np.stack(leaves), *map(nnx.state, blocks)))
