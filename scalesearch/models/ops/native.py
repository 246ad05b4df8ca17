"""Operations by XLA's convolutions and windows, with the gradients of automatic differentiation."""

from __future__ import annotations

from typing import ClassVar

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.models.ops.activation import ActivationOrNone, activate
from scalesearch.models.ops.base import EPSILON, Maps, Name, Operations, PerChannel

_AXES = (0, 1, 2)


class NativeOperations(Operations):
    """XLA alone: fast if it calls a good library of convolutions, slow on a CPU."""

    name: ClassVar[Name] = "native"

    def convolve(self, x: Maps, kernel: Float[Array, "k k c d"], stride: int) -> Float[Array, "n ho wo d"]:
        """XLA's convolution."""
        return self.grouped(x, kernel, stride)

    def depthwise(self, x: Maps, kernel: Float[Array, "k k 1 c"], stride: int) -> Float[Array, "n ho wo c"]:
        """XLA's convolution with a group for each channel."""
        return self.grouped(x, kernel, stride)

    def normalise(
        self, x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone
    ) -> tuple[Maps, PerChannel, PerChannel]:
        """The formula as it stands, in float32."""
        wide = x.astype(jnp.float32)
        mean = jnp.mean(wide, axis=_AXES)
        variance = jnp.mean(jnp.square(wide - mean), axis=_AXES)
        y = activate((wide - mean) * lax.rsqrt(variance + EPSILON) * scale + bias, activation)
        return y.astype(x.dtype), lax.stop_gradient(mean), lax.stop_gradient(variance)

    def pool(self, x: Maps, stride: int) -> Float[Array, "n ho wo c"]:
        """XLA's reduction of windows."""
        window, strides, edges = (1, 3, 3, 1), (1, stride, stride, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        pooled: jax.Array = lax.reduce_window(x, -jnp.inf, lax.max, window, strides, edges)
        return pooled
