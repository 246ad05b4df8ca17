"""The basic block with its normalisations in front of the convolutions: Wide-ResNet (arXiv:1605.07146)."""

from __future__ import annotations

import numpy as np

from scalesearch.scaling.cost.tally import OUTPUT, IntArray, Tally
from scalesearch.scaling.stage import StageSpec


class Stage(StageSpec):
    """Neither `expand_ratio` nor `se_ratio` is used. The network needs `stem.norm` none and `final_norm` batch."""

    def check(self) -> None:
        """Raises `ValueError` for an expand or squeeze-excite ratio."""
        self.refuse("se_ratio", "expand_ratio")

    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """Both convolutions run on the output map, and so does the shortcut's projection, which is not normalised."""
        tally = Tally.empty(width).add_params(2 * width_in).add(OUTPUT, self.kernel_size, width_in, width)
        tally = tally.add(OUTPUT, self.kernel_size, width, width, normalised=False, biased=False)
        projected = tally.add(OUTPUT, 1, width_in, width, normalised=False, biased=False)
        return projected if stride != 1 else projected.where(np.asarray(width_in != width), tally)
