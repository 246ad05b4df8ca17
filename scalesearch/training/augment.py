"""Augmentation: translation and mirroring, given in fractions of the image."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num


def augment(
    images: Num[Array, "n h w c"],
    offsets: Float[Array, "n 2"],
    mirrored: Bool[Array, " n"],
    *,
    shift: float,
    flip: bool,
) -> Float[Array, "n h w c"]:
    """Image i moved by `offsets[i]` ∈ [−1, 1]² times `shift` of its size, and mirrored if `flip` and `mirrored[i]`.

    A movement is a fraction of the image, not a number of pixels, so that the picture is the same at every resolution.
    Values between pixels are interpolated linearly; the border repeats outwards.
    """
    moved: Num[Array, "n h w c"] = images
    if shift:
        pixels = offsets * shift * jnp.asarray(images.shape[1:3], jnp.float32)
        reach = math.ceil(shift * max(images.shape[1:3]))
        moved = jax.vmap(partial(translate, reach=reach))(images, pixels)
    if flip:
        moved = jnp.where(mirrored[:, None, None, None], moved[:, :, ::-1], moved)
    return moved.astype(jnp.float32)


def translate(image: Num[Array, "h w c"], offset: Float[Array, " 2"], reach: int) -> Float[Array, "h w c"]:
    """out[y, x] = image[y + offset₀, x + offset₁], |offset| ≤ `reach`, linear between pixels, the border repeated."""
    height, width, channels = image.shape
    padded = jnp.pad(image, ((reach, reach + 1), (reach, reach + 1), (0, 0)), mode="edge")
    whole = jnp.floor(offset)
    start = whole.astype(jnp.int32) + reach
    window = jax.lax.dynamic_slice(padded, (start[0], start[1], 0), (height + 1, width + 1, channels))
    window = window.astype(jnp.float32)
    down, right = offset - whole
    rows = window[:-1] + down * (window[1:] - window[:-1])
    return jnp.asarray(rows[:, :-1] + right * (rows[:, 1:] - rows[:, :-1]))
