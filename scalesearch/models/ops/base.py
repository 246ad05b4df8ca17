"""The operations of a network: the contract of every implementation, and what they have in common.

An implementation is a value: frozen, without arrays, equal to another of its type and fields. It is a static attribute
of flax modules.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar, Literal

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from scalesearch.models.ops.activation import ActivationOrNone, activate, hard_sigmoid
from scalesearch.scaling.architecture import NORM_EPSILON, Activation, Padding
from scalesearch.study.sections import OperationsName
from scalesearch.study.training import Precision

Name = OperationsName
Gate = Literal["sigmoid", "hard_sigmoid"]
Maps = Float[Array, "n h w c"]
PerChannel = Float[Array, "c"]

EPSILON = NORM_EPSILON
"""What every implementation adds to the variance; `layers.BatchNorm` makes another `norm_epsilon` of it."""

LAYER_EPSILON = 1e-6
"""Added to the variance in layer normalisation, as in the released ConvNeXt."""


@dataclass(frozen=True)
class Operations(ABC):
    """What a network computes with.

    Maps x are (n, h, w, c) in float32 or bfloat16; results have the type of x unless stated otherwise. Convolutions and
    the pool pad k // 2 zeros (the pool −∞) on each side, so that a stride s leaves ho = ⌈h / s⌉ rows and wo = ⌈w / s⌉
    columns. Every operation except `normalise_by` has a gradient, and all work under `jit`, `vmap` and `scan`.

    `max_unrolled` is how many equal blocks of a stage are unrolled in a compiled program; more run as a loop. Without
    kernels, 14 blocks at 8 px compile in 10.2 s as a loop and in 11.4 s unrolled, at 1.4 times the step (2 CPU cores,
    2026-11-24). `epsilon` and `padding` are the conventions of the spec, which layers carry out (`models.layers`).
    """

    max_unrolled: int = 8
    epsilon: float = field(default=NORM_EPSILON, repr=False)
    padding: Padding = field(default="symmetric", repr=False)

    name: ClassVar[Name]
    """The value of the setting `runtime.convolutions` that selects it."""

    backend: ClassVar[str | None] = None
    """The one jax backend that it is written for ("cpu", "gpu"); None for any."""

    summary: ClassVar[str] = "compiled by XLA"
    """How it is compiled, for `doctor`."""

    purpose: ClassVar[str] = ""
    """Which backend it is for, as a clause of an error message; empty if `backend` is None."""

    limits: ClassVar[str] = ""
    """What `serves` requires, as a clause of an error message; empty if it serves everything."""

    precompiled: ClassVar[bool] = False
    """Whether the slow parts are compiled before any network, so that XLA may optimise the rest less."""

    def problem(self) -> str | None:
        """Why it cannot be used on this machine; None if it can. May build what is missing first."""
        return None

    def serves(self, precision: Precision, *, sharded: bool) -> bool:
        """Whether it computes with maps of `precision`, and with batches that are `sharded` over devices."""
        del precision, sharded
        return True

    @abstractmethod
    def convolve(self, x: Maps, kernel: Float[Array, "k k c d"], stride: int) -> Float[Array, "n ho wo d"]:
        """y[n,i,j,d] = Σ_{a,b,c} x[n, i·s + a − k//2, j·s + b − k//2, c] · kernel[a,b,c,d], k odd."""

    @abstractmethod
    def depthwise(self, x: Maps, kernel: Float[Array, "k k 1 c"], stride: int) -> Float[Array, "n ho wo c"]:
        """y[n,i,j,c] = Σ_{a,b} x[n, i·s + a − k//2, j·s + b − k//2, c] · kernel[a,b,0,c], k odd."""

    @abstractmethod
    def normalise(
        self, x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone
    ) -> tuple[Maps, PerChannel, PerChannel]:
        """Y = activation(scale · (x − μ) / √(v + ε) + bias), with μ and v (arXiv:1502.03167).

        μ and the biased variance v are those of the batch over images and positions, in float32. They carry no
        gradient.
        """

    @abstractmethod
    def pool(self, x: Maps, stride: int) -> Float[Array, "n ho wo c"]:
        """The largest value of each 3×3 window, as in torchvision's ResNet.

        The first of several equal values, row by row, takes the whole gradient.
        """

    # What follows is computed by XLA alone unless an implementation has something better for its backend.

    def grouped(self, x: Maps, kernel: Float[Array, "k k g d"], stride: int) -> Float[Array, "n ho wo d"]:
        """`convolve` in c / g groups: each of them turns g channels of x into an equal part of the d channels."""
        padding = kernel.shape[0] // 2
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((padding, padding), (padding, padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[3] // kernel.shape[2],
        )

    @jax.named_scope("patches")
    def patches(self, x: Maps, kernel: Float[Array, "k k c d"]) -> Float[Array, "n ho wo d"]:
        """y[n,i,j,d] = Σ_{a,b,c} x[n, i·k + a, j·k + b, c] · kernel[a,b,c,d]; what is missing at the end is zero."""
        n, h, w, c = x.shape
        k, width = kernel.shape[0], kernel.shape[3]
        rows, columns = -(-h // k), -(-w // k)
        x = jnp.pad(x, ((0, 0), (0, rows * k - h), (0, columns * k - w), (0, 0)))
        cut = x.reshape(n, rows, k, columns, k, c).transpose(0, 1, 3, 2, 4, 5)
        return cut.reshape(n, rows, columns, -1) @ kernel.reshape(-1, width)

    @jax.named_scope("layer normalisation")
    def layer_normalise(
        self, x: Float[Array, "*places c"], scale: PerChannel, bias: PerChannel
    ) -> Float[Array, "*places c"]:
        """Y = scale · (x − μ) / √(v + ε) + bias, μ and v over channels, in float32 (arXiv:1607.06450)."""
        wide = x.astype(jnp.float32)
        apart = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(apart), axis=-1, keepdims=True)
        return (apart * lax.rsqrt(variance + LAYER_EPSILON) * scale + bias).astype(x.dtype)

    def normalise_by(
        self,
        x: Maps,
        scale: PerChannel,
        bias: PerChannel,
        mean: PerChannel,
        variance: PerChannel,
        activation: ActivationOrNone,
    ) -> Maps:
        """activation(scale · (x − mean) / √(variance + ε) + bias) for statistics that are given: for evaluation."""
        gain = scale * lax.rsqrt(variance + EPSILON)
        return activate(x * gain + (bias - mean * gain), activation).astype(x.dtype)

    def excite(
        self,
        x: Maps,
        reduce: tuple[Float[Array, "c s"], Float[Array, " s"]],
        expand: tuple[Float[Array, "s c"], PerChannel],
        activation: Activation,
        gate: Gate = "sigmoid",
    ) -> Maps:
        """X · σ(activation(x̄ @ W₁ + b₁) @ W₂ + b₂), x̄ the mean over positions (arXiv:1709.01507).

        `reduce` is (W₁, b₁) and `expand` is (W₂, b₂). The gates are computed in float32; `gate` is σ, or the hard σ of
        arXiv:1905.02244.
        """
        with jax.named_scope("squeeze-excite"):
            squeezed = activate(jnp.mean(x, axis=(1, 2), dtype=jnp.float32) @ reduce[0] + reduce[1], activation)
            gates = (hard_sigmoid if gate == "hard_sigmoid" else jax.nn.sigmoid)(squeezed @ expand[0] + expand[1])
            return x * gates[:, None, None].astype(x.dtype)

    def add(self, x: Maps, branch: Callable[[Maps], Maps]) -> Maps:
        """The residual x + branch(x) (arXiv:1512.03385); `branch` keeps the shape of x."""
        y = branch(x)
        with jax.named_scope("skip"):
            return x + y

    def average(self, x: Maps) -> Float[Array, "n c"]:
        """The mean over positions of each image's channels, in float32."""
        return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)

    def loss(self, logits: Float[Array, "n k"], labels: Int[Array, " n"], smoothing: float) -> Float[Array, " n"]:
        """−Σ q log p of each image in nats, q = (1 − ε) · onehot + ε / K for smoothing ε (arXiv:1512.00567 §7).

        p is the softmax of float32 `logits`; int32 `labels` are 0 to K − 1.
        """
        log_probabilities = jax.nn.log_softmax(logits)
        picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
        if not smoothing:
            return -picked
        return -(1 - smoothing) * picked - smoothing * log_probabilities.mean(1)

    @jax.named_scope("packing")
    def repack(self, arrays: Sequence[jax.Array], shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
        """The values of float32 `arrays`, one after the other, as arrays of `shapes` with the same total size."""
        line = jnp.concatenate([array.reshape(-1) for array in arrays]) if len(arrays) > 1 else arrays[0].reshape(-1)
        ends = list(accumulate(map(math.prod, shapes)))
        return [line[end - math.prod(shape) : end].reshape(shape) for shape, end in zip(shapes, ends, strict=True)]
