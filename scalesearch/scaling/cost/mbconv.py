"""MBConv: expand 1×1, depthwise k×k, squeeze-excite, project 1×1 (arXiv:1801.04381, arXiv:1905.11946)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scalesearch.scaling.cost.tally import INPUT, OUTPUT, POOLED, IntArray, Tally
from scalesearch.scaling.stage import StageSpec


class Stage(StageSpec):
    """`expand_ratio` is inner ÷ input width; `se_ratio` is squeeze ÷ input width."""

    def check(self) -> None:
        """Every field may be used."""

    def inner(self, width_in: IntArray) -> IntArray:
        """Inner width of a block with `width_in` channels: see `expanded`."""
        return expanded(width_in, self.expand_ratio)

    def squeezed(self, width_in: IntArray) -> IntArray:
        """Squeeze-excite width max(1, ⌊se_ratio · block input width⌋), as in the released EfficientNet."""
        squeezed: IntArray = np.floor(np.asarray(width_in) * self.se_ratio).astype(np.int64)
        return np.maximum(squeezed, 1)

    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """The expansion runs on the input map, squeeze-excite on the pooled vector, all else on the output map."""
        del stride
        inner, tally = self.inner(width_in), Tally.empty(width)
        if self.expand_ratio != 1:
            tally = tally.add(INPUT, 1, width_in, inner)
        tally = tally.add(OUTPUT, self.kernel_size, inner, inner, groups=inner)
        if self.se_ratio:
            tally = with_squeeze_excite(tally, inner, self.squeezed(width_in))
        return tally.add(OUTPUT, 1, inner, width)


def with_squeeze_excite(tally: Tally, width: IntArray, squeezed: IntArray) -> Tally:
    """`tally` and squeeze-excite on `width` channels: two 1×1 layers on the pooled vector."""
    tally = tally.add(POOLED, 1, width, squeezed, normalised=False)
    return tally.add(POOLED, 1, squeezed, width, normalised=False)


def expanded(width_in: IntArray, ratio: float) -> IntArray:
    """`width_in` times `ratio`; for a ratio that is no whole number, in eights as timm and torchvision round it.

    >>> expanded(np.array([24, 80]), 3).tolist(), expanded(np.array([24, 80]), 2.3).tolist()
    ([72, 240], [56, 184])
    """
    if ratio == int(ratio):
        return np.asarray(width_in) * int(ratio)
    return in_eights(np.multiply(width_in, ratio, dtype=np.float64))


def in_eights(width: NDArray[np.float64]) -> IntArray:
    """Widths rounded to a multiple of eight, never below nine tenths: `compound.round_width` for arrays."""
    rounded = np.maximum(8, (width + 4 + 1e-9).astype(np.int64) // 8 * 8)
    return np.where(rounded < 0.9 * width - 1e-9, rounded + 8, rounded)
