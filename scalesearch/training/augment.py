"""Augmentation: random translation and mirroring, drawn in fractions of the image."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num


def augment(key: Key[Array, ""], images: Num[Array, "n h w c"], *, shift: float, flip: bool) -> Float[Array, "n h w c"]:
    """Each image moved by up to `shift` of its size along both axes, and half of them mirrored where `flip`.

    The draws depend on `key` and the number of images alone, and a movement is a fraction, not a number
    of pixels: candidates of every resolution see the same augmented pictures. Pixels between pixels are
    interpolated; the border repeats outwards.
    """
    offset_key, flip_key = jax.random.split(key)
    moved: Num[Array, "n h w c"] = images
    if shift:
        size = jnp.asarray(images.shape[1:3], jnp.float32)
        offsets = jax.random.uniform(offset_key, (len(images), 2), minval=-shift, maxval=shift) * size
        reach = math.ceil(shift * max(images.shape[1:3]))
        moved = jax.vmap(partial(translate, reach=reach))(images, offsets)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (len(images),))
        moved = jnp.where(mirrored[:, None, None, None], moved[:, :, ::-1], moved)
    return moved.astype(jnp.float32)


def translate(image: Num[Array, "h w c"], offset: Float[Array, "2"], reach: int) -> Float[Array, "h w c"]:
    """out[y, x] = image[y + offset₀, x + offset₁], |offset| ≤ `reach`, linear between pixels, the border repeated."""
    height, width, channels = image.shape
    padded = jnp.pad(image, ((reach, reach + 1), (reach, reach + 1), (0, 0)), mode="edge")
    whole = jnp.floor(offset)
    row, column = whole.astype(jnp.int32) + reach
    window = jax.lax.dynamic_slice(padded, (row, column, 0), (height + 1, width + 1, channels)).astype(jnp.float32)
    down, right = offset - whole
    rows = window[:-1] + down * (window[1:] - window[:-1])
    return rows[:, :-1] + right * (rows[:, 1:] - rows[:, :-1])
