"""The operations of a network as calls of the compiled kernels (`*.cc`), float32 on a CPU.

Each is one call forward and one backward, whatever the shape, so XLA has little left to compile. Matrix products are
XLA's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from scalesearch.models.ops.activation import ActivationOrNone
from scalesearch.models.ops.base import EPSILON, Maps, PerChannel
from scalesearch.models.ops.shift.taps import output_size
from scalesearch.scaling.architecture import Activation

ACTIVATIONS: tuple[ActivationOrNone, ...] = ("none", "swish", "relu", "relu6", "hard_swish")
"""Those that the kernels compute, by their numbers in activations.h."""

_MILLIONTHS = round(EPSILON * 1e6)


def _call(name: str, shapes: Any, *arrays: jax.Array, **attributes: int) -> Any:
    """The results of one kernel, of `shapes`: a shape, or a list of them."""
    if any(array.dtype != jnp.float32 for array in arrays):
        raise TypeError(f"kernels compute with float32, but got {[str(array.dtype) for array in arrays]}")
    return _call_unchecked(name, shapes, *arrays, **attributes)


def _call_unchecked(name: str, shapes: Any, *arrays: jax.Array, **attributes: int) -> Any:
    ffi: Any = jax.ffi  # has no types
    structure: Any = jax.ShapeDtypeStruct
    results = (
        [structure(shape, jnp.float32) for shape in shapes]
        if isinstance(shapes, list)
        else structure(shapes, jnp.float32)
    )
    call = ffi.ffi_call(f"scalesearch_{name}", results, vmap_method="sequential")
    return call(*arrays, **{key: np.int64(value) for key, value in attributes.items()})


@partial(jax.custom_vjp, nondiff_argnums=(2,))
@jax.named_scope("depthwise")
def depthwise(x: Maps, kernel: Float[Array, "k k 1 c"], stride: int) -> Float[Array, "n ho wo c"]:
    """`Operations.depthwise`."""
    n, h, w, c = x.shape
    y: jax.Array = _call("depthwise", (n, output_size(h, stride), output_size(w, stride), c), x, kernel, stride=stride)
    return y


@jax.named_scope("depthwise gradient")
def _depthwise_backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> Any:
    x, kernel = saved
    return tuple(_call("depthwise_gradient", [x.shape, kernel.shape], x, kernel, g, stride=stride))


depthwise.defvjp(lambda x, kernel, stride: (depthwise(x, kernel, stride), (x, kernel)), _depthwise_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
@jax.named_scope("dense")
def dense(x: Maps, kernel: Float[Array, "k k c d"], stride: int) -> Float[Array, "n ho wo d"]:
    """`Operations.convolve` for k above 1."""
    return _patches(x, kernel.shape[0], stride) @ kernel.reshape(-1, kernel.shape[3])


def _patches(x: Maps, size: int, stride: int) -> Float[Array, "n ho wo p"]:
    n, h, w, c = x.shape
    shape = (n, output_size(h, stride), output_size(w, stride), size**2 * c)
    patches: jax.Array = _call("patches", shape, x, size=size, stride=stride)
    return patches


@jax.named_scope("dense gradient")
def _dense_backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    size, rows = kernel.shape[0], kernel.reshape(-1, kernel.shape[3])
    patches = _patches(x, size, stride)  # recomputed: k² times the input is too much to keep
    kernel_gradient = patches.reshape(-1, rows.shape[0]).T @ g.reshape(-1, rows.shape[1])
    dx: jax.Array = _call("patches_gradient", x.shape, g @ rows.T, size=size, stride=stride)
    return dx, kernel_gradient.reshape(kernel.shape)


dense.defvjp(lambda x, kernel, stride: (dense(x, kernel, stride), (x, kernel)), _dense_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
@jax.named_scope("normalise")
def normalise(
    x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone
) -> tuple[Maps, PerChannel, PerChannel]:
    """`Operations.normalise`."""
    shapes = [x.shape, scale.shape, scale.shape]
    y, mean, variance = _call("normalise", shapes, x, scale, bias, **_constants(activation))
    return y, mean, variance


def _constants(activation: ActivationOrNone) -> dict[str, int]:
    return {"activation": ACTIVATIONS.index(activation), "epsilon_millionths": _MILLIONTHS}


def _normalise_forward(x: Maps, scale: PerChannel, bias: PerChannel, activation: ActivationOrNone) -> Any:
    y, mean, variance = normalise(x, scale, bias, activation)
    return (y, mean, variance), (x, scale, bias, mean, variance)


@jax.named_scope("normalise gradient")
def _normalise_backward(activation: ActivationOrNone, saved: Any, gradients: Any) -> Any:
    g, _, _ = gradients  # none flows into the statistics
    shapes = [saved[0].shape, saved[1].shape, saved[1].shape]
    return tuple(_call("normalise_gradient", shapes, *saved, g, **_constants(activation)))


normalise.defvjp(_normalise_forward, _normalise_backward)


@jax.named_scope("normalise")
def normalise_by(
    x: Maps,
    scale: PerChannel,
    bias: PerChannel,
    mean: PerChannel,
    variance: PerChannel,
    activation: ActivationOrNone,
) -> Maps:
    """activation(scale · (x − mean) / √(variance + ε) + bias). Has no gradient: for evaluation."""
    y: jax.Array = _call("normalise_evaluate", x.shape, x, scale, bias, mean, variance, **_constants(activation))
    return y


@partial(jax.custom_vjp, nondiff_argnums=(5,))
@jax.named_scope("squeeze-excite")
def excite(
    x: Maps,
    reduce: Float[Array, "c s"],
    reduce_bias: Float[Array, " s"],
    expand: Float[Array, "s c"],
    expand_bias: PerChannel,
    activation: Activation,
) -> Maps:
    """Each channel times its gate: x · σ(activation(x̄ @ reduce + bias) @ expand + bias), x̄ the mean over positions."""
    y: jax.Array = _excite_forward(x, reduce, reduce_bias, expand, expand_bias, activation)[0]
    return y


def _excite_forward(
    x: Any, reduce: Any, reduce_bias: Any, expand: Any, expand_bias: Any, activation: Activation
) -> tuple[Any, Any]:
    images, channels, squeezed = x.shape[0], x.shape[3], reduce.shape[1]
    shapes = [x.shape, (images, channels), (images, squeezed), (images, squeezed), (images, channels)]
    constants = _constants(activation)
    y, *kept = _call("excite", shapes, x, reduce, reduce_bias, expand, expand_bias, **constants)
    return y, (x, reduce, expand, *kept)


@jax.named_scope("squeeze-excite gradient")
def _excite_backward(activation: Activation, saved: Any, g: jax.Array) -> tuple[jax.Array, ...]:
    x, reduce, expand, means, squeezed, active, gates = saved
    shapes = [x.shape, squeezed.shape, gates.shape, squeezed.shape[1:], gates.shape[1:]]
    arrays = (x, reduce, expand, squeezed, gates, g)
    dx, squeezed_slopes, gate_slopes, *biases = _call("excite_gradient", shapes, *arrays, **_constants(activation))
    return dx, means.T @ squeezed_slopes, biases[0], active.T @ gate_slopes, biases[1]


excite.defvjp(_excite_forward, _excite_backward)


@jax.custom_vjp
def average(x: Maps) -> Float[Array, "n c"]:
    """The mean of each image's channels."""
    means: jax.Array = _call("pool", (x.shape[0], x.shape[3]), x)
    return means


def _average_backward(shape: tuple[int, ...], g: jax.Array) -> tuple[jax.Array]:
    return (_call("pool_gradient", shape, g),)


average.defvjp(lambda x: (average(x), x.shape), _average_backward)


@jax.custom_vjp
@jax.named_scope("skip")
def add(x: Maps, y: Maps) -> Maps:
    """The sum."""
    total: jax.Array = _call("sum", x.shape, x, y)
    return total


add.defvjp(lambda x, y: (add(x, y), None), lambda _, g: (g, g))


@jax.custom_vjp
def fork(x: Maps) -> tuple[Maps, Maps]:
    """The maps for two uses, whose gradients are added."""
    return x, x


fork.defvjp(lambda x: (fork(x), None), lambda _, gradients: (add(*gradients),))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
@jax.named_scope("cross-entropy")
def cross_entropy(logits: Float[Array, "n k"], labels: Int[Array, " n"], smoothing: float) -> Float[Array, " n"]:
    """`Operations.loss`."""
    losses: jax.Array = _cross_entropy_forward(logits, labels, smoothing)[0]
    return losses


def _cross_entropy_forward(logits: jax.Array, labels: jax.Array, smoothing: float) -> tuple[jax.Array, jax.Array]:
    if (logits.dtype, labels.dtype) != (jnp.float32, jnp.int32):
        raise TypeError(f"logits must be float32 and labels int32, but got {logits.dtype} and {labels.dtype}")
    shapes = [labels.shape, logits.shape]
    losses, slopes = _call_unchecked("cross_entropy", shapes, logits, labels, jnp.float32(smoothing))
    return losses, slopes


cross_entropy.defvjp(_cross_entropy_forward, lambda smoothing, slopes, g: (g[:, None] * slopes, None))


def repack(arrays: Sequence[jax.Array], shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
    """The values of `arrays`, one after the other, as arrays of `shapes` with the same total size."""
    return _repack(tuple(shapes), list(arrays))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _repack(shapes: tuple[tuple[int, ...], ...], arrays: list[jax.Array]) -> list[jax.Array]:
    return list(_call("repack", list(shapes), *arrays))


_repack.defvjp(
    lambda shapes, arrays: (_repack(shapes, arrays), [array.shape for array in arrays]),
    lambda shapes, before, slopes: (_repack(tuple(before), slopes),),
)
