"""From splits to the arrays that an epoch reads: resized once, on the device, one byte a value."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from scalesearch.data.sources import Split
from scalesearch.runtime.programs import obtain

_CHUNK_VALUES = 2**22  # values resized at a time: bounds the float32 copy to 16 MiB each way
_ALIGNMENT = 64  # bytes, of XLA's own arrays on a CPU
PADDING_LABEL = -1


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class EpochData:
    """Training images, validation batches whose last one is padded, and the training split's statistics.

    Grey levels stay uint8: rounding adds at most half of the step that the source itself is quantised by,
    for a quarter of float32's memory. `mean` and `std` are in grey levels, one a channel.
    """

    images: UInt8[Array, "n h w c"]
    labels: Int[Array, " n"]
    val_images: UInt8[Array, "batches b h w c"]
    val_labels: Int[Array, "batches b"]
    mean: Float[Array, " c"]
    std: Float[Array, " c"]


def prepare(train: Split, validation: Split, resolution: int, batch_size: int) -> EpochData:
    """The data of one candidate on the default device; validation in batches of at most `batch_size`.

    Warns where `resolution` is above the native one.
    """
    native = train.images.shape[1]
    if resolution > native:
        warnings.warn(
            f"some candidates see images above the data's native resolution of {native} px: "
            f"these are enlarged, which costs more and shows no more",
            stacklevel=2,
        )
    mean, std = channel_statistics(train.images)
    size = min(batch_size, len(validation))
    batches = -(-len(validation) // size)
    missing = batches * size - len(validation)
    val_images = validation.images
    if missing:
        val_images = np.pad(val_images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    val_labels = np.pad(validation.labels.astype(np.int32), (0, missing), constant_values=PADDING_LABEL)
    return EpochData(
        images=resize(train.images, resolution),
        labels=jnp.asarray(train.labels),
        val_images=resize(val_images, resolution, (batches, size)),
        val_labels=jnp.asarray(val_labels.reshape(batches, size)),
        mean=jnp.asarray(mean),
        std=jnp.asarray(std),
    )


def channel_statistics(images: UInt8[np.ndarray, "n h w c"]) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Mean and standard deviation of each channel in grey levels, exact: from a histogram of the 256 levels.

    A channel that never changes has deviation 1, so that it is standardised to 0.
    """
    levels = np.arange(256, dtype=np.float64)
    channels = images.shape[-1]
    histograms = np.zeros((channels, 256), np.int64)
    for part in np.array_split(images, -(-images.size // _CHUNK_VALUES)):  # `bincount` widens all it is given
        histograms += [np.bincount(part[..., c].reshape(-1), minlength=256) for c in range(channels)]
    shares = histograms / histograms.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def resize(
    images: UInt8[np.ndarray, "n h w c"], resolution: int, shape: tuple[int, ...] | None = None
) -> UInt8[Array, "*shape r r c"]:
    """Square images resampled by a triangle filter, widened when shrinking (antialiasing), rounded to grey levels.

    `shape` is how the n images are arranged, (n,) by default. On a CPU numpy does it: XLA would compile it anew for
    each resolution, for half a second.
    """
    count, native, _, channels = images.shape
    shape = shape or (count,)
    if native == resolution:
        return jnp.asarray(images.reshape(*shape, *images.shape[1:]))
    per_image = max(native, resolution) ** 2 * channels
    chunk = min(count, max(1, _CHUNK_VALUES // per_image))
    weights, size = _triangles(native, resolution), (*shape, resolution, resolution, channels)
    on_host = jax.default_backend() == "cpu"
    return (_resize_on_host if on_host else _resize_on_device)(images, weights, chunk, size)


def _triangles(native: int, resolution: int) -> Float[np.ndarray, "r h"]:
    """What each pixel weighs in each new one: a triangle, to each side as wide as the wider of the two pixels."""
    scale = native / resolution
    places = (np.arange(resolution) + 0.5) * scale - 0.5
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(native)) / max(scale, 1), 0)
    shares: np.ndarray = weights / weights.sum(1, keepdims=True)
    return shares.astype(np.float32)


def _resample(xp: Any, images: Any, weights: Any) -> Any:
    """`images` (m, h, w, c) at the size of `weights`, by the functions of numpy or `jax.numpy`."""
    planes = xp.moveaxis(images, 3, 1).astype(np.float32)
    resampled = xp.matmul(weights, xp.matmul(planes, weights.T))
    return xp.moveaxis(xp.clip(xp.rint(resampled), 0, 255).astype(np.uint8), 1, 3)


def _resize_on_host(
    images: UInt8[np.ndarray, "n h w c"], weights: Float[np.ndarray, "r h"], chunk: int, size: tuple[int, ...]
) -> UInt8[Array, "*shape r r c"]:
    resized = _aligned(size)
    rows = resized.reshape(-1, *size[-3:])
    for start in range(0, len(images), chunk):
        rows[start : start + chunk] = _resample(np, images[start : start + chunk], weights)
    placed: jax.Array = jax.device_put(resized)  # `jnp.asarray` would copy it
    return placed


def _aligned(shape: tuple[int, ...]) -> UInt8[np.ndarray, ...]:
    """Memory that XLA:CPU takes over as it is; what begins elsewhere it copies."""
    buffer = np.empty(math.prod(shape) + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + math.prod(shape)].reshape(shape)


def _resize_on_device(
    images: UInt8[np.ndarray, "n h w c"], weights: Float[np.ndarray, "r h"], chunk: int, size: tuple[int, ...]
) -> UInt8[Array, "*shape r r c"]:
    resized, into, last = jnp.zeros(size, np.uint8), None, len(images) - chunk
    # The last chunk overlaps the one before: one shape, one compilation.
    for start in (*range(0, last, chunk), last):
        takes = (resized, images[start : start + chunk], weights, np.int32(start))
        into = into or obtain(("resize",), _resize_into, takes, resized).result()
        resized = into(*takes)
    return resized


@partial(jax.jit, donate_argnums=0)
def _resize_into(
    resized: UInt8[Array, "*shape r r c"],
    images: UInt8[np.ndarray, "m h w c"],
    weights: Float[np.ndarray, "r h"],
    start: Int[Array, ""],
) -> UInt8[Array, "*shape r r c"]:
    """`resized` with `images` written to it from image `start` on, in place."""
    with jax.default_matmul_precision("highest"):
        part = _resample(jnp, images, weights)
    rows = jax.lax.dynamic_update_slice_in_dim(resized.reshape(-1, *part.shape[1:]), part, start, axis=0)
    return rows.reshape(resized.shape)


def standardise(
    images: Float[Array, "n h w c"], mean: Float[Array, " c"], std: Float[Array, " c"]
) -> Float[Array, "n h w c"]:
    """Grey levels to mean 0 and deviation 1 over the training split at its native size."""
    return (images - mean) / std
