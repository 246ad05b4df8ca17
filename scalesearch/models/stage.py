"""A stage: its first block, and its like blocks with stacked variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from scalesearch.models.blocks import BLOCKS
from scalesearch.models.ops.select import Forms, repack
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.stage import StageSpec

Maps = Float[Array, "n h w c"]
Step = Callable[[Maps, tuple[Any, Any]], tuple[Maps, Any]]

MAX_UNROLLED: dict[Forms, int] = {"kernels": 48, "pallas": 48, "shift": 8, "native": 8}
"""Like blocks that are unrolled, at most. On 2 CPU cores, with kernels one more block compiles in 0.05 s, where a loop
costs 2.9 s more than none, and makes the step 1.5 times as long (benchmarks/compiling.py, 2026-11-25); without, 14
blocks at 8 px compile in 10.2 s as a loop and in 11.4 s unrolled, at 1.4 times the step (2026-11-24). On a GPU
EfficientNet-B0, unrolled, compiles in 12 to 30 s (H100, 2026-11-26); more like blocks were not tried there."""


class Stage(nnx.Module):
    """`depth` blocks; all but the first have one shape, and their variables a leading axis of depth − 1.

    Up to `MAX_UNROLLED` of them are unrolled in the compiled program; more run as a loop (`lax.scan`), so that a
    deep stage compiles as two blocks. With `remat` their gradients compute the inside of each block anew.
    """

    def __init__(
        self,
        stage: StageSpec,
        width_in: int,
        activation: Activation,
        *,
        forms: Forms,
        rng: np.random.Generator,
        remat: bool = False,
    ) -> None:
        block = BLOCKS[stage.block]
        self.first = block(stage, width_in, stage.stride, activation, forms=forms, rng=rng)
        self.repeated, self.remat, self.forms = stage.depth - 1, remat, forms
        like = [block(stage, stage.width, 1, activation, forms=forms, rng=rng) for _ in range(self.repeated)]
        self.repeats = _stack(like) if like else None

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        run, first, params, stats = self._functional(self.first, train)
        x, stats = run(x, (params, stats))
        self.first = nnx.merge(first, params, stats)  # new variables: those given belong to the caller
        if self.repeats is None:
            return x
        run, like, params, stats = self._functional(self.repeats, train)
        if self.repeated > MAX_UNROLLED[self.forms]:
            x, stats = lax.scan(run, x, (params, stats))
        else:
            run, each = jax.jit(run), []  # traced once
            for variables in _unstacked((params, stats), self.repeated, self.forms):
                x, new = run(x, variables)
                each.append(new)
            stats = _stacked(each, self.forms)
        self.repeats = nnx.merge(like, params, stats)
        return x

    def _functional(self, block: Any, train: bool) -> tuple[Step, Any, Any, Any]:
        """`block` as a function of maps and variables to maps and new statistics; then its graph and variables."""
        graphdef, *states = nnx.split(block, nnx.Param, nnx.BatchStat)
        params, stats = states

        def run(x: Maps, variables: tuple[Any, Any]) -> tuple[Maps, Any]:
            merged = nnx.merge(graphdef, *variables)
            return merged(x, train=train), nnx.state(merged, nnx.BatchStat)

        return (_recomputed(run) if self.remat and train else run), graphdef, params, stats


def _recomputed(run: Step) -> Step:
    """`run`, of which the gradient keeps the arguments alone.

    As `jax.checkpoint`, but that XLA:CPU cannot undo it: it drops the barriers of `jax.checkpoint` and then finds
    the second computation equal to the first. Here the second one depends on the gradient.
    """

    @jax.custom_vjp
    def function(x: Maps, variables: Any) -> Any:
        return run(x, variables)

    def forward(x: Maps, variables: Any) -> tuple[Any, Any]:
        return run(x, variables), (x, variables)

    def backward(saved: Any, gradients: Any) -> Any:
        x, variables = saved
        nothing = 0 * gradients[0].reshape(-1)[0]  # NaN where the gradient is: XLA may not drop it
        _, pull = jax.vjp(run, x + nothing.astype(x.dtype), variables)
        return pull(gradients)

    function.defvjp(forward, backward)
    return function


def _unstacked(tree: Any, count: int, forms: Forms) -> list[Any]:
    """`count` trees of what stands at each place of the leading axis."""
    leaves, structure = jax.tree.flatten(tree)
    flat = repack(leaves, [leaf.shape[1:] for leaf in leaves for _ in range(count)], forms)
    return [jax.tree.unflatten(structure, flat[place::count]) for place in range(count)]


def _stacked(trees: list[Any], forms: Forms) -> Any:
    """One tree of what those of `trees` hold, along a leading axis."""
    structure, flat = jax.tree.structure(trees[0]), zip(*map(jax.tree.leaves, trees), strict=True)
    each = list(flat)
    shapes = [(len(trees), *leaves[0].shape) for leaves in each]
    return jax.tree.unflatten(structure, repack([leaf for leaves in each for leaf in leaves], shapes, forms))


def _stack(blocks: list[Any]) -> Any:
    """One module whose variables are those of the like `blocks`, stacked."""
    graphdef, *_ = nnx.split(blocks[0])
    return nnx.merge(graphdef, jax.tree.map(lambda *leaves: np.stack(leaves), *map(nnx.state, blocks)))
