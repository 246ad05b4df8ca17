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
import numpy as np
from jaxtyping import Array, Float

from scalesearch.models.ops.base import Operations


class Packed(NamedTuple):
    """Kernels (weight decay acts on them) and the rest: biases, normalisation."""

    kernels: Float[Array, " k"]
    vectors: Float[Array, " v"]


class Packing(NamedTuple):
    """`pack(tree) -> Packed` and its inverse, for trees of one structure."""

    pack: Callable[[Any], Packed]
    unpack: Callable[[Packed], Any]


def packing_of(template: Any, operations: Operations) -> Packing:
    """The packing of trees like `template` (arrays, or `jax.ShapeDtypeStruct` for them) of float32."""
    paths, structure = jax.tree.flatten_with_path(template)
    groups = [_group(path) for path, _ in paths]
    shapes = [[leaf.shape for (_, leaf), own in zip(paths, groups, strict=True) if own == group] for group in (0, 1)]

    def pack(tree: Any) -> Packed:
        leaves = jax.tree.leaves(tree)
        parts = [[leaf for leaf, own in zip(leaves, groups, strict=True) if own == group] for group in (0, 1)]
        lines = (operations.repack(part, [(_size(part),)])[0] if part else jnp.zeros(0) for part in parts)
        return Packed(*lines)

    def unpack(packed: Packed) -> Any:
        parts = [
            iter(operations.repack([vector], like) if like else []) for vector, like in zip(packed, shapes, strict=True)
        ]
        return jax.tree.unflatten(structure, [next(parts[group]) for group in groups])

    return Packing(pack, unpack)


def pack_on_host(tree: Any) -> Packed:
    """A tree of numpy arrays packed as `packing_of` of it would, in numpy."""
    parts: tuple[list[Any], list[Any]] = ([], [])
    for path, leaf in jax.tree.leaves_with_path(tree):
        parts[_group(path)].append(leaf.reshape(-1))
    vectors: Any = (np.concatenate(part) if part else np.zeros(0, np.float32) for part in parts)
    return Packed(*vectors)


def _group(path: Any) -> int:
    return int("kernel" not in jax.tree_util.keystr(path))


def _size(arrays: list[Any]) -> int:
    return sum(math.prod(array.shape) for array in arrays)
