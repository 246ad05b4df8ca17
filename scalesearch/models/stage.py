"""A stage: its first block, and the equal blocks after it with stacked variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.models.blocks import block_of
from scalesearch.models.layers import Kept
from scalesearch.models.ops.base import Maps, Operations
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.stage import StageSpec

Step = Callable[[Maps, tuple[Any, Any, Kept]], tuple[Maps, Any]]


class Stage(nnx.Module):
    """`depth` blocks; all but the first have one shape, and their variables a leading axis of depth − 1.

    Up to `operations.max_unrolled` of them are unrolled in the compiled program; more run as a loop (`lax.scan`), so
    that a deep stage compiles as two blocks. With `remat` their gradients compute the inside of each block again.
    """

    def __init__(
        self,
        stage: StageSpec,
        width_in: int,
        activation: Activation,
        *,
        operations: Operations,
        rng: np.random.Generator,
        remat: bool = False,
    ) -> None:
        block = block_of(stage.block)
        self.first = block(stage, width_in, stage.stride, activation, operations=operations, rng=rng)
        self.repeated, self.remat, self.operations = stage.depth - 1, remat, operations
        equal = [block(stage, stage.width, 1, activation, operations=operations, rng=rng) for _ in range(self.repeated)]
        self.repeats = _stack(equal) if equal else None

    def __call__(
        self, x: Maps, *, train: bool, kept: Float[Array, "depth n"] | None = None
    ) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise. `kept` are the `Kept` of its blocks."""
        run, first, params, stats = self._functional(self.first, train)
        x, stats = run(x, (params, stats, None if kept is None else kept[0]))
        self.first = nnx.merge(first, params, stats)  # new variables: those given belong to the caller
        if self.repeats is None:
            return x
        run, equal, params, stats = self._functional(self.repeats, train)
        if self.repeated > self.operations.max_unrolled:
            x, stats = lax.scan(run, x, (params, stats, None if kept is None else kept[1:]))
        else:
            run, each = jax.jit(run), []  # traced once
            for place, variables in enumerate(_unstacked((params, stats), self.repeated, self.operations), start=1):
                x, new = run(x, (*variables, None if kept is None else kept[place]))
                each.append(new)
            stats = _stacked(each, self.operations)
        self.repeats = nnx.merge(equal, params, stats)
        return x

    def _functional(self, block: Any, train: bool) -> tuple[Step, Any, Any, Any]:
        """`block` as a function of maps and variables to maps and new statistics; then its graph and variables."""
        graphdef, *states = nnx.split(block, nnx.Param, nnx.BatchStat)
        params, stats = states

        def run(x: Maps, variables: tuple[Any, Any, Kept]) -> tuple[Maps, Any]:
            *states, kept = variables
            merged = nnx.merge(graphdef, *states)
            # Blocks of the user's own know nothing of stochastic depth.
            y = merged(x, train=train) if kept is None else merged(x, train=train, kept=kept)
            return y, nnx.state(merged, nnx.BatchStat)

        return (_recomputed(run) if self.remat and train else run), graphdef, params, stats


def _recomputed(run: Step) -> Step:
    """`run`, whose gradient keeps only the arguments.

    Like `jax.checkpoint`, but XLA:CPU cannot undo it: it drops the barriers of `jax.checkpoint` and then finds
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


def _unstacked(tree: Any, count: int, operations: Operations) -> list[Any]:
    """`count` trees of the entries at each place of the leading axis."""
    leaves, structure = jax.tree.flatten(tree)
    if not leaves:  # of batch statistics, where a kind of block has none
        return [tree] * count
    flat = operations.repack(leaves, [leaf.shape[1:] for leaf in leaves for _ in range(count)])
    return [jax.tree.unflatten(structure, flat[place::count]) for place in range(count)]


def _stacked(trees: list[Any], operations: Operations) -> Any:
    """One tree whose leaves are those of `trees`, stacked along a leading axis."""
    structure, flat = jax.tree.structure(trees[0]), zip(*map(jax.tree.leaves, trees), strict=True)
    each = list(flat)
    if not each:
        return trees[0]
    shapes = [(len(trees), *leaves[0].shape) for leaves in each]
    return jax.tree.unflatten(structure, operations.repack([leaf for leaves in each for leaf in leaves], shapes))


def _stack(blocks: list[Any]) -> Any:
    """One module whose variables are those of the equal `blocks`, stacked."""
    graphdef, *_ = nnx.split(blocks[0])
    return nnx.merge(graphdef, jax.tree.map(_stacked_leaves, *map(nnx.state, blocks)))


def _stacked_leaves(*leaves: Any) -> Any:
    """On the host; but layers of flax, in blocks of the user's own, begin on the device or as traced shapes."""
    return jnp.stack(leaves) if isinstance(leaves[0], jax.Array) else np.stack(leaves)
