"""MobileNetV3's bneck: MBConv whose squeeze-excite has a width in eights and a hard sigmoid (arXiv:1905.02244 §5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalesearch.scaling.architecture import ACTIVATIONS, Activation
from scalesearch.scaling.cost import mbconv
from scalesearch.scaling.cost.tally import IntArray
from scalesearch.scaling.stage import require_choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(mbconv.Stage):
    """`expand_ratio` is inner ÷ input width; `se_ratio` is squeeze ÷ inner width.

    Attributes:
        activation: that of the blocks; None for that of the network.
    """

    activation: Activation | None = None

    def check(self) -> None:
        """Raises `ValueError` for an unknown activation."""
        if self.activation is not None:
            require_choice("activation", self.activation, ACTIVATIONS)

    def squeezed(self, width_in: IntArray) -> IntArray:
        """Squeeze-excite width: `se_ratio` of the inner width in eights, as in torchvision and timm."""
        return mbconv.in_eights(np.multiply(self.inner(width_in), self.se_ratio, dtype=np.float64))
