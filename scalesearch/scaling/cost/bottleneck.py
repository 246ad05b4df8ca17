"""The bottleneck residual block: reduce 1×1, k×k with the stride, expand 1×1, and a shortcut (torchvision's ResNet)."""

from __future__ import annotations

from scalesearch.errors import InputError
from scalesearch.scaling.cost.basic import with_shortcut
from scalesearch.scaling.cost.tally import INPUT, OUTPUT, IntArray, Tally
from scalesearch.scaling.stage import StageSpec, require_whole


class Stage(StageSpec):
    """`expand_ratio` is output ÷ inner width (torchvision's `expansion`)."""

    @property
    def width_multiple(self) -> int:
        """The inner width is a whole number."""
        return int(self.expand_ratio)

    def check(self) -> None:
        """Raises `InputError` for a squeeze-excite ratio, and for a width that is no multiple of the expand ratio."""
        self.refuse("se_ratio")
        require_whole("expand_ratio", self.expand_ratio, 1)
        if self.width % self.expand_ratio:
            raise InputError(
                f"`width` must be a multiple of `expand_ratio` in a `bottleneck` block, "
                f"but got width {self.width} and expand_ratio {self.expand_ratio}"
            )

    def tally(self, width_in: IntArray, width: IntArray, stride: int) -> Tally:
        """The reduction runs on the input map, all else on the output map."""
        inner = width // self.width_multiple
        tally = Tally.empty(width).add(INPUT, 1, width_in, inner)
        tally = tally.add(OUTPUT, self.kernel_size, inner, inner)
        return with_shortcut(tally.add(OUTPUT, 1, inner, width), width_in, width, stride)
