"""A tree of parameters as two long vectors, which is what the optimiser and the moving average work on.

An update of a hundred small arrays is a hundred small loops, each compiled on its own and, on an
accelerator, each launched on its own; of two vectors it is two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Packed(NamedTuple):
    """Kernels (weight decay acts on them) and the rest: biases, normalisation."""

    kernels: Float[Array, " k"]
    vectors: Float[Array, " v"]


class Packing(NamedTuple):
    """`pack(tree) -> Packed` and its inverse, for trees of one structure."""

    pack: Callable[[Any], Packed]
    unpack: Callable[[Packed], Any]


def packing_of(template: Any) -> Packing:
    """The packing of trees like `template` (arrays, or `jax.ShapeDtypeStruct` for them) of float32."""
    leaves, structure = jax.tree.flatten_with_path(template)
    shapes = [leaf.shape for _, leaf in leaves]
    group_of = [int("kernel" not in jax.tree_util.keystr(path)) for path, _ in leaves]

    def pack(tree: Any) -> Packed:
        groups: tuple[list[Array], list[Array]] = ([], [])
        for leaf, group in zip(jax.tree.leaves(tree), group_of, strict=True):
            groups[group].append(leaf.reshape(-1))
        return Packed(*(jnp.concatenate(group) if group else jnp.zeros(0, jnp.float32) for group in groups))

    def unpack(packed: Packed) -> Any:
        starts, parts = [0, 0], []
        for shape, group in zip(shapes, group_of, strict=True):
            size = math.prod(shape)
            parts.append(packed[group][starts[group] : starts[group] + size].reshape(shape))
            starts[group] += size
        return jax.tree.unflatten(structure, parts)

    return Packing(pack, unpack)
