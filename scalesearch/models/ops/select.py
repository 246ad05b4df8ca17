"""The operations of a network in four forms, `kernels`, `pallas`, `shift` and `native`, behind one choice."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from scalesearch.models.ops.cpu import kernels as fused
from scalesearch.models.ops.cpu import library
from scalesearch.models.ops.gpu import depthwise as pallas_depthwise
from scalesearch.models.ops.gpu import normalise as pallas_normalise
from scalesearch.models.ops.gpu import program as pallas
from scalesearch.models.ops.shift.dense import dense, pointwise
from scalesearch.models.ops.shift.depthwise import depthwise
from scalesearch.models.ops.shift.normalise import EPSILON, activate, normalise, normalise_plain
from scalesearch.models.ops.shift.taps import forward_taps, output_size, pad_map, take
from scalesearch.scaling.architecture import Activation

Forms = Literal["kernels", "pallas", "shift", "native"]
Setting = Literal["auto", "kernels", "pallas", "shift", "native"]
Maps = Float[Array, "n h w c"]
PerChannel = Float[Array, "c"]


FEW_CHANNELS = 4
"""Of images: where the form is `pallas`, a convolution of so few is one matrix product, of more it is cuDNN's."""

_OWN_FORMS: dict[str, Literal["kernels", "pallas"]] = {"cpu": "kernels", "gpu": "pallas"}
"""Those written for one backend."""


class FormsUnavailable(RuntimeError):
    """The forms that were asked for cannot be had on this machine."""


def choose_forms(setting: Setting, backend: str) -> Forms:
    """The forms for a jax `backend` ("cpu", "gpu", "tpu").

    `auto` is kernels on a CPU and pallas on a GPU; where these cannot be had, which warns, shift and native; and native
    on other backends. All maps of other types than float32 take shift's forms instead of kernels. Raises
    `FormsUnavailable` for what cannot be had.
    """
    if setting in ("shift", "native"):
        return setting
    own = _OWN_FORMS.get(backend)
    if setting not in ("auto", own):
        whose = "kernels are for CPUs" if setting == "kernels" else "pallas is for GPUs"
        raise FormsUnavailable(f"{whose}, but jax computes on a {backend}")
    if own is None:
        return "native"
    problem = _problem(own)
    if problem is None:
        return own
    if setting == own:
        raise FormsUnavailable(problem)
    warnings.warn(f"networks compile and train more slowly than they could: {problem}", stacklevel=2)
    return "shift" if backend == "cpu" else "native"


def available_forms(backend: str) -> tuple[Forms, ...]:
    """Those that a jax `backend` can compute on this machine."""
    own = _OWN_FORMS.get(backend)
    return ("shift", "native") if own is None or _problem(own) is not None else (own, "shift", "native")


def _problem(own: Literal["kernels", "pallas"]) -> str | None:
    return library.problem() if own == "kernels" else pallas.problem()


def _fused(x: jax.Array, forms: Forms) -> bool:
    return forms == "kernels" and x.dtype == jnp.float32


def convolve(x: Maps, kernel: Float[Array, "k k c d"], stride: int, forms: Forms) -> Float[Array, "n ho wo d"]:
    """Convolution with SAME padding of k // 2 on each side; ho = ⌈h / stride⌉."""
    wide = forms == "pallas" and kernel.shape[0] > 1 and kernel.shape[2] > FEW_CHANNELS
    if forms == "native" or wide:
        return _native(x, kernel, stride, groups=1)
    if kernel.shape[0] == 1:
        return pointwise(x, kernel, stride)
    return fused.dense(x, kernel, stride) if _fused(x, forms) else dense(x, kernel, stride)


def convolve_depthwise(
    x: Maps, kernel: Float[Array, "k k 1 c"], stride: int, forms: Forms
) -> Float[Array, "n ho wo c"]:
    """One k×k filter a channel, SAME padding of k // 2 on each side; ho = ⌈h / stride⌉."""
    if forms == "pallas" and pallas_depthwise.serves(x, kernel, stride):
        return pallas_depthwise.depthwise(x, kernel, stride)
    if forms in ("native", "pallas"):
        return _native(x, kernel, stride, groups=x.shape[3])
    return fused.depthwise(x, kernel, stride) if _fused(x, forms) else depthwise(x, kernel, stride)


def _native(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    padding = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def normalise_batch(
    x: Maps, scale: PerChannel, bias: PerChannel, activation: Activation | Literal["none"], forms: Forms
) -> tuple[Maps, PerChannel, PerChannel]:
    """activation(scale · x̂ + bias) with the statistics of the batch, and these: mean and biased variance."""
    if forms == "native":
        return normalise_plain(x, scale, bias, activation)
    if forms == "pallas" and pallas.countable(x):
        return pallas_normalise.normalise(x, scale, bias, activation)
    return (fused.normalise if _fused(x, forms) else normalise)(x, scale, bias, activation)


def normalise_by(
    x: Maps,
    scale: PerChannel,
    bias: PerChannel,
    mean: PerChannel,
    variance: PerChannel,
    activation: Activation | Literal["none"],
    forms: Forms,
) -> Maps:
    """activation(scale · x̂ + bias) with the statistics that are given, for evaluation."""
    if _fused(x, forms):
        return fused.normalise_by(x, scale, bias, mean, variance, activation)
    gain = scale * lax.rsqrt(variance + EPSILON)
    return activate(x * gain + (bias - mean * gain), activation).astype(x.dtype)


def excite(
    x: Maps,
    reduce: tuple[Float[Array, "c s"], Float[Array, " s"]],
    expand: tuple[Float[Array, "s c"], PerChannel],
    activation: Activation,
    forms: Forms,
) -> Maps:
    """Each channel times its gate: x · σ(expand(activation(reduce(mean of x over positions)))), float32 inside.

    `reduce` and `expand` are matrix and bias.
    """
    if _fused(x, forms):
        return fused.excite(x, *reduce, *expand, activation)
    with jax.named_scope("squeeze-excite"):
        squeezed = activate(jnp.mean(x, axis=(1, 2), dtype=jnp.float32) @ reduce[0] + reduce[1], activation)
        gates = jax.nn.sigmoid(squeezed @ expand[0] + expand[1])
        return x * gates[:, None, None].astype(x.dtype)


def beside(x: Maps, branch: Callable[[Maps], Maps], forms: Forms) -> Maps:
    """Maps that pass a branch by: x + branch(x)."""
    if not _fused(x, forms):
        y = branch(x)
        with jax.named_scope("skip"):
            return x + y
    first, second = fused.fork(x)
    return fused.add(first, branch(second))


def mean_over_positions(x: Maps, forms: Forms) -> Float[Array, "n c"]:
    """The mean of each image's channels, float32."""
    return fused.mean_over_positions(x) if _fused(x, forms) else jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


@jax.named_scope("packing")
def repack(arrays: Sequence[jax.Array], shapes: Sequence[tuple[int, ...]], forms: Forms) -> list[jax.Array]:
    """The numbers of float32 `arrays`, one after the other, as arrays of `shapes`: as many in all."""
    if forms == "kernels":
        return fused.repack(arrays, shapes)
    line = jnp.concatenate([array.reshape(-1) for array in arrays]) if len(arrays) > 1 else arrays[0].reshape(-1)
    ends = list(accumulate(map(math.prod, shapes)))
    return [line[end - math.prod(shape) : end].reshape(shape) for shape, end in zip(shapes, ends, strict=True)]


def cross_entropy(
    logits: Float[Array, "n k"], labels: Int[Array, " n"], smoothing: float, forms: Forms
) -> Float[Array, " n"]:
    """−Σ q log p of each image in nats, q = (1 − ε)·onehot + ε/K (arXiv:1512.00567 §7); labels are 0 to K − 1."""
    if forms == "kernels":
        return fused.cross_entropy(logits, labels, smoothing)
    log_probabilities = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
    if not smoothing:
        return -picked
    return -(1 - smoothing) * picked - smoothing * log_probabilities.mean(1)


def max_pool(x: Maps, stride: int, forms: Forms) -> Float[Array, "n ho wo c"]:
    """Largest value of each 3×3 window, padded by 1 as in torchvision's ResNet; ho = ⌈h / stride⌉."""
    if forms in ("native", "pallas"):
        window, strides, edges = (1, 3, 3, 1), (1, stride, stride, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        pooled: jax.Array = lax.reduce_window(x, -jnp.inf, lax.max, window, strides, edges)
        return pooled
    padded = pad_map(x, 1, 1, -jnp.inf)
    size = (output_size(x.shape[1], stride), output_size(x.shape[2], stride))
    first, *others = (take(padded, tap.start, size, stride) for tap in forward_taps(3))
    for other in others:
        # not jnp.maximum, whose gradient splits a tie (relu leaves many): the first largest takes it all, as in torch
        first = jnp.where(other > first, other, first)
    return first
