"""Separable convolution: depthwise k×k, then 1×1 (MobileNetV1, arXiv:1704.04861)."""

from __future__ import annotations

from scalesearch.scaling.cost.tally import OUTPUT, IntArray, Tally
from scalesearch.scaling.stage import StageSpec


class Stage(StageSpec):
    """Neither `expand_ratio` nor `se_ratio` is used."""

    def check(self) -> None:
        """Raises `ValueError` for an expand or squeeze-excite ratio."""
        self.refuse("se_ratio", "expand_ratio")

    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """Both convolutions run on the output map."""
        del stride
        tally = Tally.empty(width).add(OUTPUT, self.kernel_size, width_in, width_in, groups=width_in)
        return tally.add(OUTPUT, 1, width_in, width)
