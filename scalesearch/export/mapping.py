"""How the arrays of a network are named and laid out in another library: a table that serves both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from scalesearch.errors import InputError
from scalesearch.trained.card import NamedArrays

Kind = Literal["convolution", "depthwise", "dense", "pointwise", "vector"]
"""What an array is: the kernel of a convolution, depthwise or not; that of a fully connected layer, or of one which the
library has as a 1×1 convolution (squeeze-excite); or one number for each channel."""

Library = Literal["torch", "keras"]


class Entry(NamedTuple):
    """An array: our name, the library's, and what it is."""

    ours: str
    theirs: str
    kind: Kind


# Axes of the library's array in terms of ours: (k, k, in, out), depthwise (k, k, 1, channels), dense (in, out).
_AXES: Mapping[Library, Mapping[Kind, tuple[int, ...]]] = {
    "torch": {"convolution": (3, 2, 0, 1), "depthwise": (3, 2, 0, 1), "dense": (1, 0)},
    "keras": {"depthwise": (0, 1, 3, 2)},
}


def to_library(arrays: Mapping[str, np.ndarray], table: Sequence[Entry], library: Library) -> NamedArrays:
    """`arrays` by the library's names and in its layout. Every array of a network must be in `table`.

    Raises `ValueError` for an array that the table does not have.
    """
    if missing := sorted(arrays.keys() - {entry.ours for entry in table}):
        raise ValueError(f"the table must name every array, but lacks {missing}")
    return {entry.theirs: _there(arrays[entry.ours], entry.kind, library) for entry in table}


def from_library(theirs: Mapping[str, np.ndarray], table: Sequence[Entry], library: Library, where: str) -> NamedArrays:
    """The library's arrays by our names and in our layout; `where` names the file in errors.

    Raises `InputError` if one is missing, is left over, or has another number of axes.
    """
    expected = {entry.theirs for entry in table}
    for problem, names in (("lacks", expected - theirs.keys()), ("has no use for", theirs.keys() - expected)):
        if names:
            shown = ", ".join(f"`{name}`" for name in sorted(names)[:3])
            raise InputError(f"{where}: {problem} {shown}{f' and {len(names) - 3} more' if len(names) > 3 else ''}")
    return {entry.ours: _back(theirs[entry.theirs], entry, library, where) for entry in table}


def _there(array: np.ndarray, kind: Kind, library: Library) -> np.ndarray:
    if kind == "pointwise":  # (in, out) as a convolution of 1×1
        array, kind = array[None, None], "convolution"
    axes = _AXES[library].get(kind)
    # Contiguous: safetensors writes the memory of an array as it lies (safetensors#825).
    return np.ascontiguousarray(array if axes is None else array.transpose(axes))


def _back(array: np.ndarray, entry: Entry, library: Library, where: str) -> np.ndarray:
    kind: Kind = "convolution" if entry.kind == "pointwise" else entry.kind
    rank = {"vector": 1, "dense": 2}.get(kind, 4)
    if array.ndim != rank:
        raise InputError(f"{where}: `{entry.theirs}` must have {rank} axes, but has shape {array.shape}")
    axes = _AXES[library].get(kind)
    ours = array if axes is None else array.transpose(np.argsort(axes))
    return np.ascontiguousarray(ours[0, 0] if entry.kind == "pointwise" else ours, dtype=np.float32)
