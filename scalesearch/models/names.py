"""Plain names for the variables of a network: what checkpoints, exporters and importers speak.

`stages.2.0.expand.kernel` is the kernel of the expansion in the first block of the third stage. Blocks are not stacked,
so a name outlives the way in which a stage computes its blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.own import build_network
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.trained.card import NamedArrays
from scalesearch.trained.leaves import Leaf, arranged


def named_arrays(state: Any) -> NamedArrays:
    """The variables of a state of our network (`nnx.state(network)`, or a part of it) by their names, in numpy.

    Kernels are (k, k, in ÷ groups, out), depthwise (k, k, 1, channels), those of vectors (in, out). Works for trees of
    the same structure, such as gradients. Raises `ValueError` for arrays that are not on this machine.
    """
    named: NamedArrays = {}
    for path, leaf in _leaves(state):
        array = np.asarray(leaf)
        if not _is_stacked(path):
            named[_name(path, 0)] = array
            continue
        for place, one in enumerate(array):
            named[_name(path, place + 1)] = np.ascontiguousarray(one)
    return named


def state_of(named: Mapping[str, np.ndarray], like: Any, where: str) -> Any:
    """A state with the structure of `like` and the values of `named`; `where` names the file in errors.

    `like` may be made of `jax.ShapeDtypeStruct`. Raises `InputError`, which names the arrays: one is missing, is left
    over, has another shape, or holds a number that is not finite.
    """
    arrays = arranged(named, leaves_of(like), where)
    restored: Any = jax.tree.unflatten(jax.tree.structure(like), arrays)
    return restored


def leaves_of(state: Any) -> tuple[Leaf, ...]:
    """The arrays of a state, in the order of jax, and the plain names of what each of them holds."""
    leaves = []
    for path, leaf in _leaves(state):
        stacked = _is_stacked(path)
        shape = tuple(leaf.shape[1:] if stacked else leaf.shape)
        leaves.append(Leaf(tuple(_names(path, leaf)), shape, np.dtype(leaf.dtype), stacked))
    return tuple(leaves)


def shapes_of(spec: ArchitectureSpec) -> dict[str, tuple[int, ...]]:
    """The shape of each variable of the network of `spec`, by name.

    >>> from scalesearch.baselines.published import baseline
    >>> shapes_of(baseline("efficientnet-b0").spec)["stages.1.0.expand.kernel"]
    (1, 1, 16, 96)
    """
    return {name: array.shape for name, array in initial_arrays(spec, 0).items()}


def initial_arrays(spec: ArchitectureSpec, seed: int) -> NamedArrays:
    """The variables of a network that has not been trained."""
    network = build_network(spec, operations=NativeOperations(), dropout=0.0, rng=np.random.default_rng(seed))
    return named_arrays(nnx.state(network, (nnx.Param, nnx.BatchStat)))


def _leaves(state: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Path and array of each variable. Keys of paths are names and numbers."""
    return [
        (tuple(getattr(part, "key", getattr(part, "name", None)) for part in path if not _is_value(part)), leaf)
        for path, leaf in jax.tree.leaves_with_path(state)
    ]


def _is_stacked(path: tuple[Any, ...]) -> bool:
    """Whether a variable holds those of all equal blocks of a stage."""
    return len(path) > 2 and (path[0], path[2]) == ("stages", "repeats")


def _is_value(part: Any) -> bool:
    """Whether a part of a path leads from a variable to its array."""
    return isinstance(part, jax.tree_util.GetAttrKey)


def _names(path: tuple[Any, ...], leaf: Any) -> list[str]:
    return [_name(path, place + 1) for place in range(leaf.shape[0])] if _is_stacked(path) else [_name(path, 0)]


def _name(path: tuple[Any, ...], block: int) -> str:
    """The name of the variable at `path`, in the block of this number if it is in a stage."""
    parts = [str(part) for part in path]
    if len(parts) > 2 and parts[0] == "stages":
        parts[2] = str(block)
    return ".".join(parts)
