"""How the arrays of a model, which have plain names, become the arguments of a compiled program. Needs no jax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.count import complexity

_SLACK = 10_000


class Leaf(NamedTuple):
    """An array of a network as it computes: one named array, or those of the equal blocks of a stage, stacked.

    `shape` is that of each named array.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    stacked: bool


def arranged(named: Mapping[str, np.ndarray], leaves: Sequence[Leaf], where: str) -> list[np.ndarray]:
    """The arrays of `leaves` made of `named`; `where` names the file in errors.

    Raises `InputError`, which names the arrays: one is missing, is left over, has another shape, or holds a number
    that is not finite.
    """
    check_names(named, {name: leaf.shape for leaf in leaves for name in leaf.names}, where)
    arrays = []
    for leaf in leaves:
        parts = [np.asarray(named[name], leaf.dtype) for name in leaf.names]
        arrays.append(np.stack(parts) if leaf.stacked else parts[0])
    return arrays


def check_size(spec: ArchitectureSpec, named: Mapping[str, np.ndarray], where: str) -> None:
    """Raises `InputError` if the network of `spec` has many more parameters than `named` holds numbers.

    To be called before the network is built: that takes memory and time for what a file promises. A few more are for
    `check_names` to name. A network with code of the user's own is not judged.
    """
    if spec.module or any(stage.block_module for stage in spec.stages):
        return
    held = sum(array.size for array in named.values())
    most = 4 * held + _SLACK
    sizes: list[float] = [
        *spec.depths,
        *spec.widths,
        spec.in_channels,
        spec.num_classes,
        spec.hidden_width,
        spec.stem.kernel_size,
    ]
    sizes += [size for stage in spec.stages for size in (stage.kernel_size, stage.expand_ratio * stage.width)]
    promised = max(sizes)  # first each by itself: the count is of 64-bit numbers
    if promised <= most:
        promised = complexity(spec).params
    if promised > most:
        raise InputError(f"{where}: its network has at least {promised:,.0f} parameters, but it holds {held:,} numbers")


def check_names(named: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raises `InputError` unless `named` has exactly the `expected` shapes, and finite numbers."""
    for problem, names in (
        ("lacks", expected.keys() - named.keys()),
        ("holds what the network does not have:", named.keys() - expected.keys()),
    ):
        if names:
            raise InputError(f"{where}: {problem} {_list(sorted(names))}")
    for name, shape in expected.items():
        got = tuple(named[name].shape)
        if got != shape:
            raise InputError(f"{where}: `{name}` must have shape {shape}, but has {got}")
        if not np.isfinite(named[name]).all():
            raise InputError(f"{where}: `{name}` holds numbers that are not finite")


def _list(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
