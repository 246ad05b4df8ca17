"""Exact cost of networks: the fold over a spec that counts one network, and tables that count hundreds of thousands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.tally import INPUT, OUTPUT, POOLED, IntArray, Tally

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Complexity:
    """Cost of one forward pass at batch 1."""

    macs: int
    params: int
    activations: int


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

    def put(index: int | None, tally: Tally, level_in: int, level_out: int) -> None:
        for place, level in ((INPUT, level_in), (OUTPUT, level_out), (POOLED, levels - 1)):
            for table, values in ((macs, tally.macs), (acts, tally.channels)):
                target = table.fixed if index is None else table.repeat[:, index]
                target[:, level] += values[place]
        target = params.fixed if index is None else params.repeat[:, index]
        target[:, 0] += tally.params

    stem, *stage_widths, head = widths.T
    empty = Tally.empty(stem)
    put(None, empty.add(OUTPUT, spec.stem.kernel_size, np.full_like(stem, spec.in_channels), stem), 0, 0)
    width_in = stem
    for index, (stage, width) in enumerate(zip(spec.stages, stage_widths, strict=True)):
        put(None, stage.tally(width_in, width, stage.stride), index + 1, index + 2)
        put(index, stage.tally(width, width, 1), index + 2, index + 2)
        width_in = width
    if spec.head_width:
        put(None, empty.add(OUTPUT, 1, width_in, head), n + 1, n + 1)
        width_in = head
    classes = np.full_like(stem, spec.num_classes)
    put(None, empty.add(POOLED, 1, width_in, classes, normalised=False), n + 1, n + 1)
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
