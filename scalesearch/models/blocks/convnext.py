"""The block of ConvNeXt."""

from __future__ import annotations

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scalesearch.models.layers import Convolution, Kept, LayerNorm, add_branch
from scalesearch.models.ops.activation import activate
from scalesearch.models.ops.base import Maps, Operations
from scalesearch.scaling.architecture import Activation
from scalesearch.scaling.cost.convnext import Stage
from scalesearch.scaling.cost.mbconv import expanded

LAYER_SCALE = 1e-6
"""What the branch is multiplied by at first, as in the released ConvNeXt (`layer_scale_init_value`)."""


class Block(nnx.Module):
    """Depthwise k×k, layer normalisation, expand 1×1, project 1×1, layer scale, and a skip (arXiv:2201.03545).

    Where the shape changes, layer normalisation and a convolution, whose kernel is as large as the stride, come first.
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
        width, inner = stage.width, int(expanded(np.asarray(stage.width), stage.expand_ratio))
        reduces = stride != 1 or width_in != width
        self.reduce_norm = LayerNorm(width_in, operations=operations) if reduces else None
        self.reduce = (
            Convolution(stride, width_in, width, stride, biased=True, operations=operations, rng=rng)
            if reduces
            else None
        )
        self.depthwise = Convolution(
            stage.kernel_size, width, width, biased=True, depthwise=True, operations=operations, rng=rng
        )
        self.norm = LayerNorm(width, operations=operations)
        self.expand = Convolution(1, width, inner, biased=True, operations=operations, rng=rng)
        self.project = Convolution(1, inner, width, biased=True, operations=operations, rng=rng)
        self.layer_scale = nnx.Param(np.full(width, LAYER_SCALE, np.float32))
        self.activation, self.operations = activation, operations

    def __call__(self, x: Maps, *, train: bool, kept: Kept = None) -> Float[Array, "n ho wo d"]:
        """Maps of the stage's width; ho = ⌈h / stride⌉, wo likewise."""
        del train

        def branch(x: Maps) -> Maps:
            y = self.expand(self.norm(self.depthwise(x)))
            scaled: Maps = self.project(activate(y, self.activation)) * self.layer_scale[...].astype(x.dtype)
            return scaled

        if self.reduce is not None and self.reduce_norm is not None:
            x = self.reduce(self.reduce_norm(x))
        return add_branch(self.operations, x, branch, kept)
