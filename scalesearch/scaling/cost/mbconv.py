"""MBConv: expand 1×1, depthwise k×k, squeeze-excite, project 1×1 (arXiv:1801.04381, arXiv:1905.11946)."""

from __future__ import annotations

import numpy as np

from scalesearch.scaling.cost.tally import INPUT, OUTPUT, POOLED, IntArray, Tally
from scalesearch.scaling.stage import StageSpec


class Stage(StageSpec):
    """`expand_ratio` is inner ÷ input width."""

    def check(self) -> None:
        """Every field may be used."""

    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """The expansion runs on the input map, squeeze-excite on the pooled vector, all else on the output map."""
        del stride
        inner, tally = width_in * self.expand_ratio, Tally.empty(width)
        if self.expand_ratio != 1:
            tally = tally.add(INPUT, 1, width_in, inner)
        tally = tally.add(OUTPUT, self.kernel_size, inner, inner, groups=inner)
        if self.se_ratio:
            squeezed = squeeze_width(width_in, self.se_ratio)
            tally = tally.add(POOLED, 1, inner, squeezed, normalised=False)
            tally = tally.add(POOLED, 1, squeezed, inner, normalised=False)
        return tally.add(OUTPUT, 1, inner, width)


def squeeze_width(width_in: IntArray, se_ratio: float) -> IntArray:
    """Squeeze-excite width max(1, ⌊se_ratio · block input width⌋), as in the released EfficientNet."""
    squeezed: IntArray = np.floor(np.asarray(width_in) * se_ratio).astype(np.int64)
    return np.maximum(squeezed, 1)
