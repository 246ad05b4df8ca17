"""Fused MBConv: expand k×k, project 1×1 (EfficientNetV2, arXiv:2104.00298 Figure 2, without squeeze-excite)."""

from __future__ import annotations

from scalesearch.scaling.cost.mbconv import expanded
from scalesearch.scaling.cost.tally import OUTPUT, IntArray, Tally
from scalesearch.scaling.stage import StageSpec


class Stage(StageSpec):
    """`expand_ratio` is inner ÷ input width; with 1 the block is one k×k convolution (as released and in timm)."""

    def check(self) -> None:
        """Raises `ValueError` for a squeeze-excite ratio."""
        self.refuse("se_ratio")

    def inner(self, width_in: IntArray) -> IntArray:
        """Inner width of a block with `width_in` channels: see `mbconv.expanded`."""
        return expanded(width_in, self.expand_ratio)

    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """Both convolutions run on the output map."""
        del stride
        tally = Tally.empty(width)
        if self.expand_ratio == 1:
            return tally.add(OUTPUT, self.kernel_size, width_in, width)
        inner = self.inner(width_in)
        return tally.add(OUTPUT, self.kernel_size, width_in, inner).add(OUTPUT, 1, inner, width)
