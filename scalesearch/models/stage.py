"""A stage: its first block, and its like blocks as one loop over stacked variables."""

from __future__ import annotations

import jax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from scalesearch.models.blocks import BLOCKS
from scalesearch.models.ops import Forms
from scalesearch.scaling.architecture import Activation, StageSpec

Maps = Float[Array, "n h w c"]


class Stage(nnx.Module):
    """`depth` blocks; all but the first have one shape, and their variables a leading axis of depth − 1.

    So a stage compiles as two blocks however deep it is (`lax.scan`), and draws its initial values at once.
    """

    def __init__(
        self, stage: StageSpec, width_in: int, activation: Activation, *, forms: Forms, rngs: nnx.Rngs
    ) -> None:
        block = BLOCKS[stage.block]
        self.first = block(stage, width_in, stage.stride, activation, forms=forms, rngs=rngs)
        repeats = stage.depth - 1

        def repeat(key: Array) -> nnx.Module:
            return block(stage, stage.width, 1, activation, forms=forms, rngs=nnx.Rngs(key))

        self.repeats = nnx.vmap(repeat)(jax.random.split(rngs.params(), repeats)) if repeats else None

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        x = self.first(x, train=train)
        if self.repeats is None:
            return x
        graphdef, params, stats = nnx.split(self.repeats, nnx.Param, nnx.BatchStat)

        def run(x: Maps, variables: tuple[nnx.State, nnx.State]) -> tuple[Maps, nnx.State]:
            block = nnx.merge(graphdef, *variables)
            return block(x, train=train), nnx.state(block, nnx.BatchStat)

        x, stats = lax.scan(run, x, (params, stats))
        self.repeats = nnx.merge(graphdef, params, stats)  # new variables: those given belong to the caller
        return x
