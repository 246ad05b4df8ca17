"""Operations as sums and products of shifted slices: what XLA compiles well on a CPU."""

from __future__ import annotations

from typing import ClassVar

from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.models.ops.activation import ActivationOrNone
from scalesearch.models.ops.base import Maps, Name, Operations, PerChannel
from scalesearch.models.ops.shift.dense import dense, grouped, pointwise
from scalesearch.models.ops.shift.depthwise import depthwise
from scalesearch.models.ops.shift.normalise import normalise
from scalesearch.models.ops.shift.taps import forward_taps, output_size, pad_map, take


class ShiftOperations(Operations):
    """Convolutions without XLA's convolution, and a normalisation that keeps only its input for the gradient."""

    name: ClassVar[Name] = "shift"

    def convolve(self, x: Maps, kernel: Float[Array, "k k c d"], stride: int) -> Float[Array, "n ho wo d"]:
        """One matrix product of the shifted slices."""
        return (pointwise if kernel.shape[0] == 1 else dense)(x, kernel, stride)

    def depthwise(self, x: Maps, kernel: Float[Array, "k k 1 c"], stride: int) -> Float[Array, "n ho wo c"]:
        """A sum of shifted products."""
        return depthwise(x, kernel, stride)

    def grouped(self, x: Maps, kernel: Float[Array, "k k g d"], stride: int) -> Float[Array, "n ho wo d"]:
        """A matrix product for each group of the shifted slices."""
        return grouped(x, kernel, stride)

    def normalise(
        self, x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone
    ) -> tuple[Maps, PerChannel, PerChannel]:
        """By the sums of x and x², with a gradient written out."""
        return normalise(x, scale, bias, activation)

    def pool(self, x: Maps, stride: int) -> Float[Array, "n ho wo c"]:
        """The largest of nine shifted slices."""
        padded = pad_map(x, 1, 1, -jnp.inf)
        size = (output_size(x.shape[1], stride), output_size(x.shape[2], stride))
        first, *others = (take(padded, start, size, stride) for _, start in forward_taps(3))
        for other in others:
            # not jnp.maximum, whose gradient splits a tie (relu leaves many): the first takes it all, as in torch
            first = jnp.where(other > first, other, first)
        return first
