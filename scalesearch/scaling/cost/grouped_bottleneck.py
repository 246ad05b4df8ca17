"""The bottleneck block with a grouped k×k convolution: RegNet (arXiv:2003.13678) and ResNeXt (arXiv:1611.05431)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalesearch.errors import InputError
from scalesearch.scaling.cost.basic import with_shortcut
from scalesearch.scaling.cost.mbconv import with_squeeze_excite
from scalesearch.scaling.cost.tally import INPUT, OUTPUT, IntArray, Tally
from scalesearch.scaling.stage import StageSpec, require_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(StageSpec):
    """`expand_ratio` is output ÷ inner width; `se_ratio` is squeeze ÷ input width (RegNetY).

    Attributes:
        group_width: channels of each group of the k×k convolution, a divisor of the inner width.
    """

    group_width: int

    @property
    def width_multiple(self) -> int:
        """The inner width is a whole number of groups."""
        return int(self.expand_ratio) * self.group_width

    @property
    def usual_divisor(self) -> int:
        """The inner width is a multiple of eight too."""
        return int(self.expand_ratio) * math.lcm(8, self.group_width)

    def check(self) -> None:
        """Raises `InputError` for a width that is no multiple of `expand_ratio` · `group_width`."""
        require_whole("expand_ratio", self.expand_ratio, 1)
        require_whole("group_width", self.group_width, 1)
        if self.width % self.width_multiple:
            raise InputError(
                f"`width` must be a multiple of `expand_ratio` · `group_width` in a `grouped_bottleneck` block, "
                f"but got width {self.width}, expand_ratio {self.expand_ratio} and group_width {self.group_width}"
            )

    def squeezed(self, width_in: IntArray) -> IntArray:
        """Squeeze-excite width: `se_ratio` of the input width, rounded half to even as in torchvision and timm."""
        return np.maximum(np.rint(np.multiply(width_in, self.se_ratio, dtype=np.float64)).astype(np.int64), 1)

    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """The reduction runs on the input map, squeeze-excite on the pooled vector, all else on the output map."""
        inner = width // int(self.expand_ratio)
        tally = Tally.empty(width).add(INPUT, 1, width_in, inner)
        tally = tally.add(OUTPUT, self.kernel_size, inner, inner, groups=inner // self.group_width)
        if self.se_ratio:
            tally = with_squeeze_excite(tally, inner, self.squeezed(width_in))
        return with_shortcut(tally.add(OUTPUT, 1, inner, width), width_in, width, stride)
