"""A tree of parameters as two long vectors, which the optimiser and the moving average work on.

An update of a hundred small arrays is a hundred small loops, each of them compiled and, on an accelerator, launched;
an update of two vectors is two loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
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


class Packing:
    """Packs float32 trees of one structure, and unpacks them.

    Args:
        template: a tree of arrays, or of `jax.ShapeDtypeStruct`.
        operations: whose `repack` moves the numbers.
    """

    def __init__(self, template: Any, operations: Operations) -> None:
        leaves_with_paths, self._structure = jax.tree.flatten_with_path(template)
        self.paths = tuple(path for path, _ in leaves_with_paths)
        self._groups = [_group(path) for path in self.paths]
        self._shapes = _grouped([leaf.shape for _, leaf in leaves_with_paths], self._groups)
        self._operations = operations

    def pack(self, tree: Any) -> Packed:
        """The leaves of `tree`, one after the other."""
        parts = _grouped(jax.tree.leaves(tree), self._groups)
        return Packed(*(self._operations.repack(part, [(_size(part),)])[0] if part else jnp.zeros(0) for part in parts))

    def unpack(self, packed: Packed) -> Any:
        """The tree that `pack` made `packed` of."""
        parts = [
            iter(self._operations.repack([vector], shapes) if shapes else [])
            for vector, shapes in zip(packed, self._shapes, strict=True)
        ]
        return jax.tree.unflatten(self._structure, [next(parts[group]) for group in self._groups])

    def unpack_on_host(self, packed: Packed) -> Any:
        """The same in numpy."""
        parts = []
        for vector, shapes in zip(packed, self._shapes, strict=True):
            ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=int)
            pieces = np.split(np.asarray(vector), ends[:-1]) if shapes else []
            parts.append(iter([piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]))
        return jax.tree.unflatten(self._structure, [next(parts[group]) for group in self._groups])

    def by_leaf(self, function: Callable[..., Array], values: Sequence[float], *packed: Packed) -> Packed:
        """`function(value, *parts)` for each leaf's value and its part of each of `packed`, packed again.

        Called once for leaves next to each other with one value: it must work on each number by itself.
        """
        results: list[Array] = []
        for group, shapes in zip(_grouped(list(values), self._groups), self._shapes, strict=True):
            parts: list[Array] = []
            start = 0
            for value, leaves in groupby(zip(group, shapes, strict=True), key=lambda leaf: leaf[0]):
                stop = start + sum(math.prod(shape) for _, shape in leaves)
                parts.append(function(value, *(each[len(results)][start:stop] for each in packed)))
                start = stop
            results.append(jnp.concatenate(parts) if parts else jnp.zeros(0))
        return Packed(*results)


def pack_on_host(tree: Any) -> Packed:
    """A tree of numpy arrays packed in numpy, as `Packing` would."""
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
