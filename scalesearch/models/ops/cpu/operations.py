"""Operations as calls of kernels in C++, for float32 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from scalesearch.models.ops.activation import ActivationOrNone
from scalesearch.models.ops.base import Gate, Maps, Name, PerChannel
from scalesearch.models.ops.cpu import kernels, library
from scalesearch.models.ops.shift.operations import ShiftOperations
from scalesearch.scaling.architecture import Activation
from scalesearch.study.training import Precision


class CpuOperations(ShiftOperations):
    """Kernels for float32 maps; all else is that of `shift`: other types, 1×1 and grouped convolutions, GELU, the pool.

    One more unrolled block compiles in 0.05 s, where a loop costs 2.9 s more than none and makes the step 1.5 times as
    long (2 CPU cores, benchmarks/compiling.py, 2026-11-25).
    """

    max_unrolled: int = 48

    name: ClassVar[Name] = "kernels"
    backend: ClassVar[str | None] = "cpu"
    summary: ClassVar[str] = "compiled for this processor"
    purpose: ClassVar[str] = "kernels are for CPUs"
    limits: ClassVar[str] = "kernels compute whole batches in float32 (`training.precision`, `data_parallel`)"
    precompiled: ClassVar[bool] = True

    def problem(self) -> str | None:
        """Why the kernels cannot be built or loaded; builds them and makes them known to XLA."""
        return library.problem()

    def serves(self, precision: Precision, *, sharded: bool) -> bool:
        """Float32 only; XLA cannot split the call of a kernel over devices."""
        return precision == "float32" and not sharded

    def convolve(self, x: Maps, kernel: Float[Array, "k k c d"], stride: int) -> Float[Array, "n ho wo d"]:
        """Patches by a kernel, then one matrix product."""
        if kernel.shape[0] > 1 and _served(x):
            return kernels.dense(x, kernel, stride)
        return super().convolve(x, kernel, stride)

    def depthwise(self, x: Maps, kernel: Float[Array, "k k 1 c"], stride: int) -> Float[Array, "n ho wo c"]:
        """One kernel forward and one for both gradients."""
        return kernels.depthwise(x, kernel, stride) if _served(x) else super().depthwise(x, kernel, stride)

    def normalise(
        self, x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone
    ) -> tuple[Maps, PerChannel, PerChannel]:
        """Statistics, normalisation and activation in one kernel."""
        apply = kernels.normalise if _served(x, activation) else super().normalise
        return apply(x, scale, bias, activation)

    def normalise_by(
        self,
        x: Maps,
        scale: PerChannel,
        bias: PerChannel,
        mean: PerChannel,
        variance: PerChannel,
        activation: ActivationOrNone,
    ) -> Maps:
        """Normalisation and activation in one kernel, which has no gradient."""
        apply = kernels.normalise_by if _served(x, activation) else super().normalise_by
        return apply(x, scale, bias, mean, variance, activation)

    def excite(
        self,
        x: Maps,
        reduce: tuple[Float[Array, "c s"], Float[Array, " s"]],
        expand: tuple[Float[Array, "s c"], PerChannel],
        activation: Activation,
        gate: Gate = "sigmoid",
    ) -> Maps:
        """The whole squeeze-excite in one kernel, if its gate is a sigmoid."""
        if _served(x, activation) and gate == "sigmoid":
            return kernels.excite(x, *reduce, *expand, activation)
        return super().excite(x, reduce, expand, activation, gate)

    def add(self, x: Maps, branch: Callable[[Maps], Maps]) -> Maps:
        """The sum in a kernel, like that of the two gradients of x."""
        if not _served(x):
            return super().add(x, branch)
        first, second = kernels.fork(x)
        return kernels.add(first, branch(second))

    def average(self, x: Maps) -> Float[Array, "n c"]:
        """The mean in a kernel."""
        return kernels.average(x) if _served(x) else super().average(x)

    def loss(self, logits: Float[Array, "n k"], labels: Int[Array, " n"], smoothing: float) -> Float[Array, " n"]:
        """Loss and slopes in one kernel. Raises `TypeError` unless logits are float32 and labels int32."""
        return kernels.cross_entropy(logits, labels, smoothing)

    @jax.named_scope("packing")
    def repack(self, arrays: Sequence[jax.Array], shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
        """One kernel that copies. Raises `TypeError` unless all arrays are float32."""
        return kernels.repack(arrays, shapes)


def _served(x: jax.Array, activation: ActivationOrNone = "none") -> bool:
    return bool(x.dtype == jnp.float32) and activation in kernels.ACTIVATIONS
