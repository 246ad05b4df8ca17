"""The first blocks of EfficientNetV2."""

from __future__ import annotations

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scalesearch.models.layers import ConvNorm, Kept, add_branch
from scalesearch.models.ops.base import Maps, Operations
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.cost.fused_mbconv import Stage


class Block(nnx.Module):
    """Expand k×k, project 1×1 without activation; for an expand ratio of 1, one k×k convolution (arXiv:2104.00298)."""

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
        k, width, expands = stage.kernel_size, stage.width, stage.expand_ratio != 1
        inner = int(stage.inner(np.asarray(width_in))) if expands else width
        self.expand = ConvNorm(k, width_in, inner, stride, activation, operations=operations, rng=rng)
        self.project = ConvNorm(1, inner, width, 1, "none", operations=operations, rng=rng) if expands else None
        self.skip, self.operations = stride == 1 and width_in == width, operations

    def __call__(self, x: Maps, *, train: bool, kept: Kept = None) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""

        def branch(x: Maps) -> Maps:
            y = self.expand(x, train=train)
            return y if self.project is None else self.project(y, train=train)

        return add_branch(self.operations, x, branch, kept) if self.skip else branch(x)
