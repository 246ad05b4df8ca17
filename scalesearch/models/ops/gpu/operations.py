"""Operations on a GPU: XLA's, and in Pallas what XLA does not do well there."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Array, Float

from scalesearch.models.ops.activation import ActivationOrNone
from scalesearch.models.ops.base import Maps, Name, PerChannel
from scalesearch.models.ops.gpu import depthwise, normalise, program
from scalesearch.models.ops.native import NativeOperations
from scalesearch.models.ops.shift.normalise import normalise as normalise_by_sums
from scalesearch.models.ops.shift.operations import ShiftOperations
from scalesearch.study.training import Precision

FEW_CHANNELS = 4
"""At most this many, as in images, are convolved by one matrix product of shifted slices, more by cuDNN."""

_SHIFT = ShiftOperations()


class GpuOperations(NativeOperations):
    """Depthwise convolution and the sums of normalisation's gradient in Pallas; matrix products for 1×1 convolutions.

    EfficientNet-B0, unrolled, compiles in 12 to 30 s (H100, 2026-11-26); deeper stages were not tried.
    """

    max_unrolled: int = 48

    name: ClassVar[Name] = "pallas"
    backend: ClassVar[str | None] = "gpu"
    summary: ClassVar[str] = "in Pallas, compiled with each network"
    purpose: ClassVar[str] = "pallas is for GPUs"
    limits: ClassVar[str] = "pallas computes whole batches (`data_parallel`)"

    def problem(self) -> str | None:
        """Why jax has no Pallas for this GPU."""
        return program.problem()

    def serves(self, precision: Precision, *, sharded: bool) -> bool:
        """Both precisions; XLA cannot split the call of a kernel over devices."""
        del precision
        return not sharded

    def convolve(self, x: Maps, kernel: Float[Array, "k k c d"], stride: int) -> Float[Array, "n ho wo d"]:
        """A matrix product for a 1×1 kernel and for `FEW_CHANNELS`, else XLA's convolution."""
        if kernel.shape[0] > 1 and kernel.shape[2] > FEW_CHANNELS:
            return super().convolve(x, kernel, stride)
        return _SHIFT.convolve(x, kernel, stride)

    def depthwise(self, x: Maps, kernel: Float[Array, "k k 1 c"], stride: int) -> Float[Array, "n ho wo c"]:
        """In Pallas where `gpu.depthwise.serves` the shapes."""
        if depthwise.serves(x, kernel, stride):
            return depthwise.depthwise(x, kernel, stride)
        return super().depthwise(x, kernel, stride)

    def normalise(
        self, x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone
    ) -> tuple[Maps, PerChannel, PerChannel]:
        """With the gradient's sums in Pallas, for maps that are not too large to be indexed; GELU's by XLA."""
        in_pallas = program.countable(x) and activation != "gelu"  # Triton need not have its error function
        apply = normalise.normalise if in_pallas else normalise_by_sums
        return apply(x, scale, bias, activation)
