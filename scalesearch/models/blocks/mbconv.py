"""The inverted residual block of MobileNetV2 and EfficientNet."""

from __future__ import annotations

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scalesearch.models.layers import ConvNorm, DepthwiseNorm, Kept, SqueezeExcite, add_branch
from scalesearch.models.ops.base import Gate, Maps, Operations
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.cost.mbconv import Stage


class Block(nnx.Module):
    """Expand 1×1, depthwise k×k, squeeze-excite, project 1×1 without activation (arXiv:1801.04381, 1905.11946)."""

    def __init__(
        self,
        stage: Stage,
        width_in: int,
        stride: int,
        activation: Activation,
        *,
        operations: Operations,
        rng: np.random.Generator,
        squeeze_activation: Activation | None = None,
        gate: Gate = "sigmoid",
    ) -> None:
        inner, squeezed = (int(width(np.asarray(width_in))) for width in (stage.inner, stage.squeezed))
        self.expand = (
            ConvNorm(1, width_in, inner, 1, activation, operations=operations, rng=rng)
            if stage.expand_ratio != 1
            else None
        )
        self.depthwise = DepthwiseNorm(stage.kernel_size, inner, stride, activation, operations=operations, rng=rng)
        self.excite = (
            SqueezeExcite(inner, squeezed, squeeze_activation or activation, operations=operations, rng=rng, gate=gate)
            if stage.se_ratio
            else None
        )
        self.project = ConvNorm(1, inner, stage.width, 1, "none", operations=operations, rng=rng)
        self.skip, self.operations = stride == 1 and width_in == stage.width, operations

    def __call__(self, x: Maps, *, train: bool, kept: Kept = None) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""

        def branch(x: Maps) -> Maps:
            y = x if self.expand is None else self.expand(x, train=train)
            y = self.depthwise(y, train=train)
            y = y if self.excite is None else self.excite(y)
            return self.project(y, train=train)

        return add_branch(self.operations, x, branch, kept) if self.skip else branch(x)
