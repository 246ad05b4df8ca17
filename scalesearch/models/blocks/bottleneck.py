"""The block of the larger ResNets."""

from __future__ import annotations

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scalesearch.models.layers import ConvNorm, Kept, keep_some, shortcut
from scalesearch.models.ops.activation import activate
from scalesearch.models.ops.base import Maps, Operations
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.stage import StageSpec


class Block(nnx.Module):
    """Reduce 1×1, k×k with the stride, expand 1×1, and a shortcut (torchvision's ResNet)."""

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
        inner = stage.width // stage.width_multiple
        self.activation = activation
        self.reduce = ConvNorm(1, width_in, inner, 1, activation, operations=operations, rng=rng)
        self.middle = ConvNorm(stage.kernel_size, inner, inner, stride, activation, operations=operations, rng=rng)
        self.expand = ConvNorm(1, inner, stage.width, 1, "none", operations=operations, rng=rng)
        self.shortcut = shortcut(width_in, stage.width, stride, operations=operations, rng=rng)

    def __call__(self, x: Maps, *, train: bool, kept: Kept = None) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        y = self.expand(self.middle(self.reduce(x, train=train), train=train), train=train)
        y = keep_some(y, kept)
        return activate(y + (x if self.shortcut is None else self.shortcut(x, train=train)), self.activation)
