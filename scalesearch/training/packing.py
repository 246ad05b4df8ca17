"""A tree of parameters as two long vectors, which the optimiser and the moving average work on.

An update of a hundred small arrays is a hundred small loops, each of them compiled and, on an accelerator, launched;
an update of two vectors is two loops.
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
    """The packing of float32 trees like `template`.

    Args:
        template: a tree of arrays, or of `jax.ShapeDtypeStruct`.
        operations: whose `repack` moves the numbers.
    """
    leaves_with_paths, structure = jax.tree.flatten_with_path(template)
    groups = [_group(path) for path, _ in leaves_with_paths]
    shapes = _grouped([leaf.shape for _, leaf in leaves_with_paths], groups)

    def pack(tree: Any) -> Packed:
        parts = _grouped(jax.tree.leaves(tree), groups)
        lines = (operations.repack(part, [(_size(part),)])[0] if part else jnp.zeros(0) for part in parts)
        return Packed(*lines)

    def unpack(packed: Packed) -> Any:
        parts = [
            iter(operations.repack([vector], like) if like else []) for vector, like in zip(packed, shapes, strict=True)
        ]
        return jax.tree.unflatten(structure, [next(parts[group]) for group in groups])

    return Packing(pack, unpack)


def pack_on_host(tree: Any) -> Packed:
    """A tree of numpy arrays packed in numpy, as `packing_of` of it would."""
    leaves_with_paths = jax.tree.leaves_with_path(tree)
    groups = [_group(path) for path, _ in leaves_with_paths]
    parts = _grouped([leaf.reshape(-1) for _, leaf in leaves_with_paths], groups)
    vectors: Any = (np.concatenate(part) if part else np.zeros(0, np.float32) for part in parts)
    return Packed(*vectors)


def _grouped(values: list[Any], groups: list[int]) -> tuple[list[Any], list[Any]]:
    """The values of group 0 and those of group 1."""
    pairs = list(zip(values, groups, strict=True))
    return [value for value, group in pairs if group == 0], [value for value, group in pairs if group == 1]


def _group(path: Any) -> int:
    """0 for kernels, 1 for all other variables."""
    return int("kernel" not in jax.tree_util.keystr(path))


def _size(arrays: list[Any]) -> int:
    return sum(math.prod(array.shape) for array in arrays)
