"""The ConvNeXt block: depthwise k×k, layer normalisation, expand 1×1, project 1×1, layer scale (arXiv:2201.03545).

Where a stage has a stride or changes the width, its first block begins with layer normalisation and a convolution whose
kernel is as large as the stride.
"""

from __future__ import annotations

import numpy as np

from scalesearch.scaling.cost.mbconv import expanded
from scalesearch.scaling.cost.tally import OUTPUT, IntArray, Tally
from scalesearch.scaling.stage import StageSpec


class Stage(StageSpec):
    """`expand_ratio` is inner ÷ output width, 4 as published. The network needs `stem.norm` and `final_norm` layer."""

    def check(self) -> None:
        """Raises `ValueError` for a squeeze-excite ratio."""
        self.refuse("se_ratio")

    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """Everything runs on the output map; every convolution has a bias."""
        inner, tally = expanded(width, self.expand_ratio), Tally.empty(width)
        tally = tally.add(OUTPUT, self.kernel_size, width, width, groups=width, biased=True)
        tally = tally.add(OUTPUT, 1, width, inner, normalised=False).add(OUTPUT, 1, inner, width, normalised=False)
        tally = tally.add_params(width)
        reduced = tally.add_params(2 * width_in).add(OUTPUT, stride, width_in, width, normalised=False)
        return reduced if stride != 1 else reduced.where(np.asarray(width_in != width), tally)
