"""Exact cost of networks: the fold over a spec that counts one network, and tables that count hundreds of thousands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.tally import INPUT, OUTPUT, POOLED, IntArray, Tally

FloatArray = NDArray[np.float64]

LARGEST_EXACT = 2**53
"""Costs are counted in float64, in which whole numbers are exact up to here."""


@dataclass(frozen=True, slots=True)
class Complexity:
    """Cost of one forward pass at batch 1."""

    macs: int
    params: int
    activations: int


class Tables(NamedTuple):
    """The three costs as linear functions of depths and areas, for every row of widths: arrays (W, n + 1, L).

    Row 0 of the middle axis holds the network with one block per stage, row i what each further block of stage i adds.
    L = n + 3 levels are stem output, stem output after the pool, the n stages' outputs, and the pooled vector; `params`
    has one level, of area 1. cost[d, w, r] = (table₀ + Σᵢ (dᵢ − 1) tableᵢ)[w] · areas[:, r].
    """

    macs: IntArray
    params: IntArray
    activations: IntArray


def tabulate(spec: ArchitectureSpec, widths: IntArray) -> Tables:
    """Cost tables of the network for each row of `widths` (W, n + 2: stem, stages, head); depths are left open."""
    rows, levels, n = len(widths), len(spec.stages) + 3, len(spec.stages)
    macs, acts, params = (np.zeros((rows, n + 1, size), np.int64) for size in (levels, levels, 1))

    def put(row: int, tally: Tally, level_in: int, level_out: int) -> None:
        for place, level in ((INPUT, level_in), (OUTPUT, level_out), (POOLED, levels - 1)):
            macs[:, row, level] += tally.macs[place]
            acts[:, row, level] += tally.channels[place]
        params[:, row, 0] += tally.params

    stem, *stage_widths, head = widths.T
    empty, norm = Tally.empty(stem), spec.stem.norm
    channels, kernel_size = np.full_like(stem, spec.in_channels), spec.stem.kernel_size
    put(0, empty.add(OUTPUT, kernel_size, channels, stem, normalised=norm != "none", biased=norm == "layer"), 0, 0)
    width_in = stem
    for index, (stage, width) in enumerate(zip(spec.stages, stage_widths, strict=True)):
        put(0, stage.tally(width_in, width, stage.stride), index + 1, index + 2)
        put(index + 1, stage.tally(width, width, 1), index + 2, index + 2)
        width_in = width
    if spec.head_width:
        put(0, empty.add(OUTPUT, 1, width_in, head), n + 1, n + 1)
        width_in = head
    if spec.final_norm != "none":
        put(0, empty.add_params(2 * width_in), n + 1, n + 1)
    if spec.hidden_width:
        hidden = np.full_like(stem, spec.hidden_width)
        put(0, empty.add(POOLED, 1, width_in, hidden, normalised=False), n + 1, n + 1)
        width_in = hidden
    classes = np.full_like(stem, spec.num_classes)
    put(0, empty.add(POOLED, 1, width_in, classes, normalised=False), n + 1, n + 1)
    return Tables(macs, params, acts)


def areas(spec: ArchitectureSpec, resolutions: IntArray) -> IntArray:
    """Positions (L, R) of each level's map at each resolution, L as in `Tables`."""

    def halve(size: IntArray, stride: int) -> IntArray:
        return -(-size // stride)

    size = halve(resolutions, spec.stem.stride)
    sizes = [size, size := halve(size, spec.stem.pool_stride)]
    for stage in spec.stages:
        sizes.append(size := halve(size, stage.stride))
    sizes.append(np.ones_like(size))
    return np.stack(sizes) ** 2


def count(table: IntArray, depths: IntArray, area: IntArray) -> FloatArray:
    """Costs (D, W, R) of all combinations of `depths` (D, n), the widths of `table` (of `Tables`) and `area` (L, R).

    Two matrix products in float64, which are exact: every term and sum is a whole number below 2⁵³.
    """
    rows, n, levels = table.shape
    blocks = np.insert((depths - 1).astype(np.float64), 0, 1.0, axis=1)
    weights = blocks @ table.transpose(1, 0, 2).reshape(n, rows * levels).astype(np.float64)
    costs: FloatArray = weights.reshape(len(depths) * rows, levels) @ area.astype(np.float64)
    return costs.reshape(len(depths), rows, area.shape[1])


def complexity(spec: ArchitectureSpec) -> Complexity:
    """Exact macs, trainable parameters and activations of `spec`.

    Raises `InputError` if one of them exceeds `LARGEST_EXACT`.
    """
    tables = tabulate(spec, np.array([spec.widths], np.int64))
    depths = np.array([spec.depths], np.int64)
    area = areas(spec, np.array([spec.resolution], np.int64))
    one = np.ones((1, 1), np.int64)
    amounts = {
        "macs": float(count(tables.macs, depths, area)[0, 0, 0]),
        "params": float(count(tables.params, depths, one)[0, 0, 0]),
        "activations": float(count(tables.activations, depths, area)[0, 0, 0]),
    }
    for name, amount in amounts.items():
        if amount > LARGEST_EXACT:
            raise InputError(
                f"a network must have at most {LARGEST_EXACT:.2g} {name} to be counted exactly, but got {amount:.2g}"
            )
    return Complexity(**{name: int(amount) for name, amount in amounts.items()})
