"""Exact cost of a network: macs, parameters and activations as a fold over the spec.

The cost of a block is a polynomial in its widths alone, kept apart for the three places where its
layers run: the block's input map, its output map, and the pooled vector (squeeze-excite, classifier).
Widths may be numbers or whole numpy arrays, so the fold that counts one network also fills the
tables from which `feasible` counts hundreds of thousands. Nothing is counted twice by two formulas.

Counted: multiply-adds of convolutions and of the classifier, padding taps included (what
arXiv:1905.11946 calls FLOPS); trainable parameters, batch normalisation's two included; activations
are the output elements of every convolution and of the classifier (arXiv:2003.13678 §3.1). The
1×1 layers of squeeze-excite are convolutions with bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalesearch.scaling.architecture import ArchitectureSpec, StageSpec

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_INPUT, _OUTPUT, _POOLED = range(3)


@dataclass(frozen=True, slots=True)
class Complexity:
    """Cost of one forward pass at batch 1."""

    macs: int
    params: int
    activations: int


class _Tally(NamedTuple):
    """Per position of (input map, output map, pooled vector): multiply-adds and channels; and parameters."""

    macs: tuple[IntArray, IntArray, IntArray]
    channels: tuple[IntArray, IntArray, IntArray]
    params: IntArray


def _empty(like: IntArray) -> _Tally:
    zero = np.zeros_like(like)
    return _Tally((zero, zero, zero), (zero, zero, zero), zero)


def _add(
    tally: _Tally,
    where: int,
    kernel_size: int,
    width_in: IntArray,
    width_out: IntArray,
    *,
    depthwise: bool = False,
    normalised: bool = True,
) -> _Tally:
    """`tally` with one convolution more, followed by batch normalisation or, without it, with a bias."""
    weights = kernel_size**2 * (1 if depthwise else width_in) * width_out
    macs, channels = list(tally.macs), list(tally.channels)
    macs[where] = macs[where] + weights
    channels[where] = channels[where] + width_out
    params = tally.params + weights + (2 if normalised else 1) * width_out
    return _Tally((macs[0], macs[1], macs[2]), (channels[0], channels[1], channels[2]), params)


def squeeze_width(width_in: IntArray, se_ratio: float) -> IntArray:
    """Squeeze-excite width max(1, ⌊se_ratio · block input width⌋), as in the released EfficientNet."""
    squeezed: IntArray = np.floor(np.asarray(width_in) * se_ratio).astype(np.int64)
    return np.maximum(squeezed, 1)


def _block(stage: StageSpec, width_in: IntArray, width: IntArray, stride: int) -> _Tally:
    tally, kernel = _empty(width), stage.kernel_size
    if stage.block == "mbconv":
        inner = width_in * stage.expand_ratio
        if stage.expand_ratio != 1:
            tally = _add(tally, _INPUT, 1, width_in, inner)
        tally = _add(tally, _OUTPUT, kernel, inner, inner, depthwise=True)
        if stage.se_ratio:
            squeezed = squeeze_width(width_in, stage.se_ratio)
            tally = _add(tally, _POOLED, 1, inner, squeezed, normalised=False)
            tally = _add(tally, _POOLED, 1, squeezed, inner, normalised=False)
        return _add(tally, _OUTPUT, 1, inner, width)
    if stage.block == "separable":
        tally = _add(tally, _OUTPUT, kernel, width_in, width_in, depthwise=True)
        return _add(tally, _OUTPUT, 1, width_in, width)
    if stage.block == "basic":
        tally = _add(tally, _OUTPUT, kernel, width_in, width)
        tally = _add(tally, _OUTPUT, kernel, width, width)
    else:
        inner = width // stage.expand_ratio
        tally = _add(tally, _INPUT, 1, width_in, inner)
        tally = _add(tally, _OUTPUT, kernel, inner, inner)
        tally = _add(tally, _OUTPUT, 1, inner, width)
    shortcut = _add(tally, _OUTPUT, 1, width_in, width)
    if stride != 1:
        return shortcut
    return _where(np.asarray(width_in != width), shortcut, tally)


def _where(condition: NDArray[np.bool_], yes: _Tally, no: _Tally) -> _Tally:
    def pick(a: IntArray, b: IntArray) -> IntArray:
        return np.where(condition, a, b)

    macs = tuple(map(pick, yes.macs, no.macs))
    channels = tuple(map(pick, yes.channels, no.channels))
    return _Tally(macs, channels, pick(yes.params, no.params))  # type: ignore[arg-type]  # three each


class Table(NamedTuple):
    """One cost as a linear function of depths and areas, for every row of widths.

    `fixed` (W, L) holds the network with one block a stage, `repeat` (W, n, L) what each further block
    of stage i adds; L = n + 3 levels are stem output, stem output after the pool, the n stages'
    outputs, and the pooled vector. cost[d, w, r] = (fixed + Σᵢ (dᵢ − 1) repeatᵢ)[w] · areas[:, r].
    """

    fixed: IntArray
    repeat: IntArray


class Tables(NamedTuple):
    """The tables of the three costs; `params` has one level, of area 1."""

    macs: Table
    params: Table
    activations: Table


def tabulate(spec: ArchitectureSpec, widths: IntArray) -> Tables:
    """Cost tables of the network for each row of `widths` (W, n + 2: stem, stages, head); depths are left open."""
    rows, levels, n = len(widths), len(spec.stages) + 3, len(spec.stages)
    macs, acts, params = (
        Table(np.zeros((rows, size), np.int64), np.zeros((rows, n, size), np.int64)) for size in (levels, levels, 1)
    )

    def put(index: int | None, tally: _Tally, level_in: int, level_out: int) -> None:
        for place, level in ((_INPUT, level_in), (_OUTPUT, level_out), (_POOLED, levels - 1)):
            for table, values in ((macs, tally.macs), (acts, tally.channels)):
                target = table.fixed if index is None else table.repeat[:, index]
                target[:, level] += values[place]
        target = params.fixed if index is None else params.repeat[:, index]
        target[:, 0] += tally.params

    stem, *stage_widths, head = widths.T
    empty = _empty(stem)
    put(None, _add(empty, _OUTPUT, spec.stem.kernel_size, np.full_like(stem, spec.in_channels), stem), 0, 0)
    width_in = stem
    for index, (stage, width) in enumerate(zip(spec.stages, stage_widths, strict=True)):
        put(None, _block(stage, width_in, width, stage.stride), index + 1, index + 2)
        put(index, _block(stage, width, width, 1), index + 2, index + 2)
        width_in = width
    if spec.head_width:
        put(None, _add(empty, _OUTPUT, 1, width_in, head), n + 1, n + 1)
        width_in = head
    classes = np.full_like(stem, spec.num_classes)
    put(None, _add(empty, _POOLED, 1, width_in, classes, normalised=False), n + 1, n + 1)
    return Tables(macs, params, acts)


def areas(spec: ArchitectureSpec, resolutions: IntArray) -> IntArray:
    """Positions (L, R) of each level's map at each resolution, L as in `Table`."""

    def halve(size: IntArray, stride: int) -> IntArray:
        return -(-size // stride)

    size = halve(resolutions, spec.stem.stride)
    sizes = [size, size := halve(size, spec.stem.pool_stride)]
    for stage in spec.stages:
        sizes.append(size := halve(size, stage.stride))
    sizes.append(np.ones_like(size))
    return np.stack(sizes) ** 2


def count(table: Table, depths: IntArray, area: IntArray) -> FloatArray:
    """Costs (D, W, R) of all combinations of `depths` (D, n), the table's widths and `area` (L, R).

    One matrix product in float64, which is exact: every term and sum is a whole number below 2⁵³.
    """
    rows, n, levels = table.repeat.shape
    extra = (depths - 1).astype(np.float64) @ table.repeat.transpose(1, 0, 2).reshape(n, rows * levels).astype(float)
    weights = extra.reshape(len(depths) * rows, levels) + np.tile(table.fixed, (len(depths), 1))
    costs: FloatArray = weights @ area.astype(np.float64)
    return costs.reshape(len(depths), rows, area.shape[1])


def complexity(spec: ArchitectureSpec) -> Complexity:
    """Exact macs, trainable parameters and activations of `spec`."""
    tables = tabulate(spec, np.array([spec.widths], np.int64))
    depths = np.array([spec.depths], np.int64)
    area = areas(spec, np.array([spec.resolution], np.int64))
    one = np.ones((1, 1), np.int64)
    return Complexity(
        macs=int(count(tables.macs, depths, area)[0, 0, 0]),
        params=int(count(tables.params, depths, one)[0, 0, 0]),
        activations=int(count(tables.activations, depths, area)[0, 0, 0]),
    )
