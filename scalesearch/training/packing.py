"""A tree of parameters as two long vectors, which is what the optimiser and the moving average work on.

An update of a hundred small arrays is a hundred small loops, each compiled on its own and, on an
accelerator, each launched on its own; of two vectors it is two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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
    paths, structure = jax.tree.flatten_with_path(template)
    groups = [_group(path) for path, _ in paths]
    shapes = [leaf.shape for _, leaf in paths]

    def pack(tree: Any) -> Packed:
        return _concatenate(jax.tree.leaves(tree), groups, jnp)

    def unpack(packed: Packed) -> Any:
        starts, parts = [0, 0], []
        for shape, group in zip(shapes, groups, strict=True):
            size = math.prod(shape)
            parts.append(packed[group][starts[group] : starts[group] + size].reshape(shape))
            starts[group] += size
        return jax.tree.unflatten(structure, parts)

    return Packing(pack, unpack)


def pack_on_host(tree: Any) -> Packed:
    """A tree of numpy arrays packed as `packing_of` of it would, in numpy."""
    paths = jax.tree.leaves_with_path(tree)
    return _concatenate([leaf for _, leaf in paths], [_group(path) for path, _ in paths], np)


def _group(path: Any) -> int:
    return int("kernel" not in jax.tree_util.keystr(path))


def _concatenate(leaves: list[Any], groups: list[int], numpy: ModuleType) -> Packed:
    parts: tuple[list[Any], list[Any]] = ([], [])
    for leaf, group in zip(leaves, groups, strict=True):
        parts[group].append(leaf.reshape(-1))
    return Packed(*(numpy.concatenate(part) if part else numpy.zeros(0, np.float32) for part in parts))
