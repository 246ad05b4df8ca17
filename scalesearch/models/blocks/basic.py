"""The block of the smaller ResNets."""

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
    """Two k×k convolutions and a shortcut (arXiv:1512.03385 §3.3), which is projected where the shape changes."""

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
        k, width = stage.kernel_size, stage.width
        self.activation = activation
        self.first = ConvNorm(k, width_in, width, stride, activation, operations=operations, rng=rng)
        self.second = ConvNorm(k, width, width, 1, "none", operations=operations, rng=rng)
        self.shortcut = shortcut(width_in, width, stride, operations=operations, rng=rng)

    def __call__(self, x: Maps, *, train: bool, kept: Kept = None) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        y = self.second(self.first(x, train=train), train=train)
        y = keep_some(y, kept)
        return activate(y + (x if self.shortcut is None else self.shortcut(x, train=train)), self.activation)
