"""The inverted residual block of MobileNetV3."""

from __future__ import annotations

import numpy as np

from scalesearch.models.blocks import mbconv
from scalesearch.models.ops.base import Operations
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.cost.bneck import Stage


class Block(mbconv.Block):
    """MBConv with the stage's activation; squeeze-excite by relu and a hard sigmoid (arXiv:1905.02244 §5)."""

    def __init__(
        self,
        stage: Stage,
        width_in: int,
        stride: int,
        activation: Activation,
        *,
        operations: Operations,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(
            stage,
            width_in,
            stride,
            stage.activation or activation,
            operations=operations,
            rng=rng,
            squeeze_activation="relu",
            gate="hard_sigmoid",
        )
