"""Layers with parameters: convolutions, normalisations, squeeze-excite, classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx
from jax import numpy as jnp
from jaxtyping import Array, Float

from scalesearch.models.ops.activation import ActivationOrNone
from scalesearch.models.ops.base import EPSILON, Gate, Maps, Operations
from scalesearch.scaling.architecture import Activation

Kept = Float[Array, " n"] | None
"""Of stochastic depth, for each image: 0 where a block drops its branch, else 1 / (1 − its rate). None for none."""


def _convolution_kernel(
    rng: np.random.Generator, kernel_size: int, width_in: int, width_out: int, fan_out: float
) -> np.ndarray:
    """Normal with variance 2 / fan_out, as in the released EfficientNet (`conv_kernel_initializer`)."""
    shape = (kernel_size, kernel_size, width_in, width_out)
    return rng.standard_normal(shape, np.float32) * np.float32((2 / fan_out) ** 0.5)


def convolve(
    operations: Operations, x: Maps, kernel: Float[Array, "k k g d"], stride: int
) -> Float[Array, "n ho wo d"]:
    """The convolution that the shapes ask for: in patches for an even kernel, in groups for fewer channels than x's."""
    if kernel.shape[0] % 2 == 0:
        return operations.patches(x, kernel)
    apply = operations.grouped if kernel.shape[2] != x.shape[3] else operations.convolve
    return _padded(apply, operations, x, kernel, stride)


def depthwise(
    operations: Operations, x: Maps, kernel: Float[Array, "k k 1 c"], stride: int
) -> Float[Array, "n ho wo c"]:
    """The depthwise convolution, with the padding of `operations`."""
    return _padded(operations.depthwise, operations, x, kernel, stride)


def _padded(
    apply: Callable[[Maps, Array, int], Maps], operations: Operations, x: Maps, kernel: Array, stride: int
) -> Maps:
    """A convolution with the padding of `operations`, by one that pads k // 2 on each side.

    TensorFlow's SAME pads less before the map: with stride − missing zeros more, the second output is its first.
    """
    size = kernel.shape[0]
    outputs = [-(-length // stride) for length in x.shape[1:3]]
    same = [
        max((count - 1) * stride + size - length, 0) // 2 for count, length in zip(outputs, x.shape[1:3], strict=True)
    ]
    missing = [size // 2 - before for before in same]
    if operations.padding == "symmetric" or stride == 1 or not any(missing):
        return apply(x, kernel, stride)
    more = [stride - less if less else 0 for less in missing]
    y = apply(jnp.pad(x, ((0, 0), (more[0], 0), (more[1], 0), (0, 0))), kernel, stride)
    rows, columns = (slice(int(less > 0), int(less > 0) + count) for less, count in zip(missing, outputs, strict=True))
    return y[:, rows, columns]


class BatchNorm(nnx.Module):
    """Batch normalisation with its activation.

    In training its statistics become those of the batch (biased variance); the step averages them over batches.
    """

    def __init__(self, width: int, activation: ActivationOrNone, *, operations: Operations) -> None:
        self.activation, self.operations = activation, operations
        self.scale = nnx.Param(np.ones(width, np.float32))
        self.bias = nnx.Param(np.zeros(width, np.float32))
        self.mean: nnx.BatchStat[Any] = nnx.BatchStat(np.zeros(width, np.float32))
        self.var: nnx.BatchStat[Any] = nnx.BatchStat(np.ones(width, np.float32))

    def __call__(self, x: Maps, *, train: bool) -> Maps:
        """The normalised and activated maps: by the statistics of the batch in training, else by the stored ones."""
        scale, bias, mean, variance = (each[...] for each in (self.scale, self.bias, self.mean, self.var))
        # Maps times g and EPSILON are normalised as maps and EPSILON / g²: no operation needs another ε.
        gain = (EPSILON / self.operations.epsilon) ** 0.5
        if not train:
            if gain != 1:
                scale, variance = scale * gain, variance * gain**2
            return self.operations.normalise_by(x, scale, bias, mean, variance, self.activation)
        y, mean, variance = self.operations.normalise(x if gain == 1 else x * gain, scale, bias, self.activation)
        if gain != 1:
            mean, variance = mean / gain, variance / gain**2
        # new variables: `nnx.merge` shares those of the caller, which under `jax.grad` belong to an outer trace
        self.mean, self.var = nnx.BatchStat(mean), nnx.BatchStat(variance)
        return y


class ConvNorm(nnx.Module):
    """Convolution without bias, in groups of `group_width` channels, then `BatchNorm` with its activation."""

    def __init__(
        self,
        kernel_size: int,
        width_in: int,
        width_out: int,
        stride: int,
        activation: ActivationOrNone,
        *,
        operations: Operations,
        rng: np.random.Generator,
        group_width: int | None = None,
    ) -> None:
        self.stride, self.operations = stride, operations
        fan_out = kernel_size**2 * width_out
        self.kernel = nnx.Param(_convolution_kernel(rng, kernel_size, group_width or width_in, width_out, fan_out))
        self.norm = BatchNorm(width_out, activation, operations=operations)

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo d"]:
        """Activated maps; ho = ⌈h / stride⌉, wo likewise."""
        return self.norm(convolve(self.operations, x, self.kernel[...].astype(x.dtype), self.stride), train=train)


def shortcut(
    width_in: int, width: int, stride: int, *, operations: Operations, rng: np.random.Generator
) -> ConvNorm | None:
    """What a residual block adds its branch to: a 1×1 projection where the shape changes, None for the input itself."""
    if stride == 1 and width_in == width:
        return None
    return ConvNorm(1, width_in, width, stride, "none", operations=operations, rng=rng)


def keep_some(branch: Maps, kept: Kept) -> Maps:
    """The branch of a residual block under stochastic depth (arXiv:1603.09382)."""
    return branch if kept is None else (branch * kept[:, None, None, None]).astype(branch.dtype)


def add_branch(operations: Operations, x: Maps, branch: Callable[[Maps], Maps], kept: Kept) -> Maps:
    """The residual x + branch(x) under stochastic depth."""
    return operations.add(x, branch if kept is None else lambda x: keep_some(branch(x), kept))


class DepthwiseNorm(nnx.Module):
    """Depthwise convolution without bias, then `BatchNorm` with its activation."""

    def __init__(
        self,
        kernel_size: int,
        width: int,
        stride: int,
        activation: Activation,
        *,
        operations: Operations,
        rng: np.random.Generator,
    ) -> None:
        self.stride, self.operations = stride, operations
        # one output a filter: the reference reads fan_out off the kernel's last axis, the channel multiplier
        self.kernel = nnx.Param(_convolution_kernel(rng, kernel_size, 1, width, kernel_size**2))
        self.norm = BatchNorm(width, activation, operations=operations)

    def __call__(self, x: Maps, *, train: bool) -> Float[Array, "n ho wo c"]:
        """Activated maps; ho = ⌈h / stride⌉, wo likewise."""
        kernel = self.kernel[...].astype(x.dtype)
        return self.norm(depthwise(self.operations, x, kernel, self.stride), train=train)


class Convolution(nnx.Module):
    """Convolution without normalisation, depthwise or not; with a bias it begins as in the released ConvNeXt.

    That is: deviation 0.02, and a bias of zero.
    """

    def __init__(
        self,
        kernel_size: int,
        width_in: int,
        width_out: int,
        stride: int = 1,
        *,
        biased: bool = False,
        depthwise: bool = False,
        operations: Operations,
        rng: np.random.Generator,
    ) -> None:
        self.stride, self.depthwise, self.operations = stride, depthwise, operations
        fan_out = 2 / 0.02**2 if biased else kernel_size**2 * width_out
        kernel = _convolution_kernel(rng, kernel_size, 1 if depthwise else width_in, width_out, fan_out)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(np.zeros(width_out, np.float32)) if biased else None

    def __call__(self, x: Maps) -> Float[Array, "n ho wo d"]:
        """Maps; ho = ⌈h / stride⌉, wo likewise."""
        kernel = self.kernel[...].astype(x.dtype)
        y = (depthwise if self.depthwise else convolve)(self.operations, x, kernel, self.stride)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation over the channels of each place."""

    def __init__(self, width: int, *, operations: Operations) -> None:
        self.operations = operations
        self.scale = nnx.Param(np.ones(width, np.float32))
        self.bias = nnx.Param(np.zeros(width, np.float32))

    def __call__(self, x: Float[Array, "*places c"]) -> Float[Array, "*places c"]:
        """Normalised maps, or vectors."""
        return self.operations.layer_normalise(x, self.scale[...], self.bias[...])


class Affine(nnx.Module):
    """x @ kernel + bias on vectors; the bias begins at zero."""

    def __init__(self, kernel: Float[np.ndarray, "c d"]) -> None:
        self.kernel: nnx.Param[Any] = nnx.Param(kernel)
        self.bias: nnx.Param[Any] = nnx.Param(np.zeros(kernel.shape[1], np.float32))

    def __call__(self, x: Float[Array, "n c"]) -> Float[Array, "n d"]:
        """One vector for each of x's."""
        y: Array = x @ self.kernel[...] + self.bias[...]
        return y


def squeeze_layer(width_in: int, width_out: int, *, rng: np.random.Generator) -> Affine:
    """A 1×1 convolution with bias on a pooled map, initialised as a convolution."""
    return Affine(_convolution_kernel(rng, 1, width_in, width_out, width_out)[0, 0])


def classifier(width_in: int, num_classes: int, *, rng: np.random.Generator) -> Affine:
    """The last layer: uniform in ±1/√num_classes, as in the released EfficientNet (`dense_kernel_initializer`)."""
    bound = num_classes**-0.5
    return Affine(rng.uniform(-bound, bound, (width_in, num_classes)).astype(np.float32))


class SqueezeExcite(nnx.Module):
    """x · σ(expand(activation(reduce(mean of x over positions)))), arXiv:1709.01507."""

    def __init__(
        self,
        width: int,
        squeezed: int,
        activation: Activation,
        *,
        operations: Operations,
        rng: np.random.Generator,
        gate: Gate = "sigmoid",
    ) -> None:
        self.activation, self.gate, self.operations = activation, gate, operations
        self.reduce = squeeze_layer(width, squeezed, rng=rng)
        self.expand = squeeze_layer(squeezed, width, rng=rng)

    def __call__(self, x: Maps) -> Maps:
        """The maps, each channel times its gate, a factor in (0, 1)."""
        reduce, expand = ((layer.kernel[...], layer.bias[...]) for layer in (self.reduce, self.expand))
        return self.operations.excite(x, reduce, expand, self.activation, self.gate)
