"""The basic residual block: two k×k convolutions and a shortcut (arXiv:1512.03385 §3.3)."""

from __future__ import annotations

import numpy as np

from scalesearch.scaling.cost.tally import OUTPUT, IntArray, Tally
from scalesearch.scaling.stage import StageSpec


class Stage(StageSpec):
    """Neither `expand_ratio` nor `se_ratio` is used."""

    def check(self) -> None:
        """Raises `ValueError` for an expand or squeeze-excite ratio."""
        self.refuse("se_ratio", "expand_ratio")

    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """Both convolutions run on the output map, and so does the shortcut's projection."""
        tally = Tally.empty(width).add(OUTPUT, self.kernel_size, width_in, width)
        return with_shortcut(tally.add(OUTPUT, self.kernel_size, width, width), width_in, width, stride)


def with_shortcut(tally: Tally, width_in: IntArray, width: IntArray, stride: int) -> Tally:
    """`tally` and a 1×1 projection as the shortcut, where the block changes the shape of its maps."""
    projected = tally.add(OUTPUT, 1, width_in, width)
    return projected if stride != 1 else projected.where(np.asarray(width_in != width), tally)
