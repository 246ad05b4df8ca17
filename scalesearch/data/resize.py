"""Square images at another resolution: a triangle filter, in numpy on a CPU and compiled on an accelerator."""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from scalesearch.runtime.programs import compile_in_background

CHUNK_VALUES = 2**22
"""Values resized at a time: their float32 copy takes 16 MiB."""

_ALIGNMENT = 64  # bytes, of XLA's arrays on a CPU


def resize(
    images: UInt8[np.ndarray, "n h w c"],
    resolution: int,
    shape: tuple[int, ...] | None = None,
    *,
    on_host: bool | None = None,
    chunk_values: int = CHUNK_VALUES,
) -> UInt8[Array, "*shape r r c"]:
    """Square images resampled by a triangle filter and rounded to grey levels, on the default device.

    The filter is as wide as the wider of an old and a new pixel, so that shrinking does not alias.

    Args:
        images: grey levels, h = w.
        resolution: the new height and width r.
        shape: how the n images are arranged, (n,) if None.
        on_host: resize with numpy; None does so on a CPU, where XLA would take half a second to compile a resolution.
        chunk_values: values resized at a time, which bounds memory.
    """
    count, native, _, channels = images.shape
    shape = shape or (count,)
    if native == resolution:
        return jnp.asarray(images.reshape(*shape, *images.shape[1:]))
    chunk = min(count, max(1, chunk_values // (max(native, resolution) ** 2 * channels)))
    weights, size = _triangles(native, resolution), (*shape, resolution, resolution, channels)
    if on_host is None:
        on_host = jax.default_backend() == "cpu"
    return (_resize_on_host if on_host else _resize_on_device)(images, weights, chunk, size)


def resize_in_parts(
    images: UInt8[np.ndarray, "n h w c"], resolution: int, start: int = 0, *, chunk_values: int = CHUNK_VALUES
) -> Generator[UInt8[np.ndarray, "m r r c"], None, None]:
    """The images from place `start` on, resampled by numpy as `resize` does on a CPU, part after part."""
    _, native, _, channels = images.shape
    weights, chunk = _triangles(native, resolution), max(1, chunk_values // (max(native, resolution) ** 2 * channels))
    for first in range(start, len(images), chunk):
        yield _resample(np, images[first : first + chunk], weights)


def _triangles(native: int, resolution: int) -> Float[np.ndarray, "r h"]:
    """The weight of each pixel in each new one."""
    scale = native / resolution
    places = (np.arange(resolution) + 0.5) * scale - 0.5
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(native)) / max(scale, 1), 0)
    shares: np.ndarray = weights / weights.sum(1, keepdims=True)
    return shares.astype(np.float32)


def _resample(xp: Any, images: Any, weights: Any) -> Any:
    """`images` (m, h, w, c) at the size of `weights`; `xp` is numpy or `jax.numpy`."""
    planes = xp.moveaxis(images, 3, 1).astype(np.float32)
    resampled = xp.matmul(weights, xp.matmul(planes, weights.T))
    return xp.moveaxis(xp.clip(xp.rint(resampled), 0, 255).astype(np.uint8), 1, 3)


def _resize_on_host(
    images: UInt8[np.ndarray, "n h w c"], weights: Float[np.ndarray, "r h"], chunk: int, size: tuple[int, ...]
) -> UInt8[Array, "*shape r r c"]:
    resized = aligned(size)
    rows = resized.reshape(-1, *size[-3:])
    for start in range(0, len(images), chunk):
        rows[start : start + chunk] = _resample(np, images[start : start + chunk], weights)
    placed: jax.Array = jax.device_put(resized)  # `jnp.asarray` would copy
    return placed


def aligned(shape: tuple[int, ...]) -> UInt8[np.ndarray, ...]:
    """Memory aligned like XLA's, so that XLA takes it over on a CPU without a copy."""
    buffer = np.empty(math.prod(shape) + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + math.prod(shape)].reshape(shape)


def _resize_on_device(
    images: UInt8[np.ndarray, "n h w c"], weights: Float[np.ndarray, "r h"], chunk: int, size: tuple[int, ...]
) -> UInt8[Array, "*shape r r c"]:
    resized, write, last = jnp.zeros(size, np.uint8), None, len(images) - chunk
    # The last chunk overlaps the one before it, so that all have one shape and one compilation.
    for start in (*range(0, last, chunk), last):
        arguments = (resized, images[start : start + chunk], weights, np.int32(start))
        write = write or compile_in_background(_write_resized, arguments).result()
        resized = write(*arguments)
    return resized


@partial(jax.jit, donate_argnums=0)
def _write_resized(
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
