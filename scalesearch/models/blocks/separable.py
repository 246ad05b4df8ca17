"""The depthwise-separable block of MobileNetV1."""

from __future__ import annotations

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scalesearch.models.layers import ConvNorm, DepthwiseNorm, Kept
from scalesearch.models.ops.base import Maps, Operations
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.stage import StageSpec


class Block(nnx.Module):
    """Depthwise k×k, then 1×1, each with activation (arXiv:1704.04861)."""

    def __init__(
        self,
        stage: StageSpec,
        width_in: int,
        stride: int,
        activation: Activation,
        *,
        operations: Operations,
        rng: np.random.Generator,
    ) -> None:
        self.depthwise = DepthwiseNorm(stage.kernel_size, width_in, stride, activation, operations=operations, rng=rng)
        self.pointwise = ConvNorm(1, width_in, stage.width, 1, activation, operations=operations, rng=rng)

    def __call__(self, x: Maps, *, train: bool, kept: Kept = None) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        del kept  # no residual
        return self.pointwise(self.depthwise(x, train=train), train=train)
