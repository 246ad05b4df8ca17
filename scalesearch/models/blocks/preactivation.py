"""The block of Wide-ResNet."""

from __future__ import annotations

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scalesearch.models.layers import BatchNorm, ConvNorm, Convolution, Kept, add_branch, keep_some
from scalesearch.models.ops.base import Maps, Operations
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.cost.preactivation import Stage


class Block(nnx.Module):
    """Twice normalise, activate, convolve k×k; and a shortcut (arXiv:1603.05027, 1605.07146).

    Where the shape changes, the shortcut is a 1×1 convolution of the normalised and activated maps.
    """

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
        k, width = stage.kernel_size, stage.width
        self.norm = BatchNorm(width_in, activation, operations=operations)
        self.first = ConvNorm(k, width_in, width, stride, activation, operations=operations, rng=rng)
        self.second = Convolution(k, width, width, operations=operations, rng=rng)
        changes = stride != 1 or width_in != width
        self.shortcut = Convolution(1, width_in, width, stride, operations=operations, rng=rng) if changes else None
        self.operations = operations

    def __call__(self, x: Maps, *, train: bool, kept: Kept = None) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        if self.shortcut is not None:
            x = self.norm(x, train=train)
            return keep_some(self.second(self.first(x, train=train)), kept) + self.shortcut(x)

        def branch(x: Maps) -> Maps:
            return self.second(self.first(self.norm(x, train=train), train=train))

        return add_branch(self.operations, x, branch, kept)
