"""The arrays on the device that epochs read their batches from: resized once, one byte per value."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from scalesearch.data.cache import ImageCache, OnDone, recipe_of
from scalesearch.data.images import Pictures, Split
from scalesearch.data.resize import resize
from scalesearch.data.splits import native_resolution
from scalesearch.data.statistics import channel_statistics, statistics_of

PADDING_LABEL = -1


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class EpochData:
    """Training images, validation batches whose last one is padded, and the training split's statistics.

    Grey levels stay uint8, which takes a quarter of float32's memory: rounding adds an error of at most half the
    source's own quantisation step. `mean` and `std` are in grey levels, one per channel.
    """

    images: UInt8[Array, "n h w c"]
    labels: Int[Array, " n"]
    val_images: UInt8[Array, "batches b h w c"]
    val_labels: Int[Array, "batches b"]
    mean: Float[Array, " c"]
    std: Float[Array, " c"]


def prepare(
    train: Split,
    validation: Split,
    resolution: int,
    batch_size: int,
    *,
    cache: ImageCache | None = None,
    on_images: OnDone = lambda resolution, done, total: None,
) -> EpochData:
    """The data of one candidate on the default device. Warns if `resolution` is above the native one.

    Args:
        train: the images to train on, whose statistics standardise all images.
        validation: the images to evaluate on.
        resolution: height and width that the candidate takes.
        batch_size: the most images of a validation batch.
        cache: where decoded pictures are kept; None for the user's.
        on_images: called while pictures are decoded.
    """
    native = native_resolution(train.images)
    if resolution > native:
        warnings.warn(
            f"some candidates see images above the data's native resolution of {native} px: "
            f"these are enlarged, which costs more and shows no more",
            stacklevel=2,
        )
    # Pictures are decoded at the resolution, whose statistics count; arrays are resized later.
    cache = cache or ImageCache()
    if isinstance(train.images, Pictures):
        made = cache.images(recipe_of(train.images, resolution), on_images)
        train_images, (mean, std) = made.pixels, statistics_of(made.counts)
    else:
        train_images, (mean, std) = train.images, channel_statistics(train.images)
    val_images = validation.images
    if isinstance(val_images, Pictures):
        val_images = cache.images(recipe_of(val_images, resolution), on_images).pixels

    # Validation in whole batches: padding images have a label that is ignored.
    size = min(batch_size, len(validation))
    batches = -(-len(validation) // size)
    missing = batches * size - len(validation)
    if missing:
        val_images = np.pad(val_images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    val_labels = np.pad(validation.labels.astype(np.int32), (0, missing), constant_values=PADDING_LABEL)

    return EpochData(
        images=resize(train_images, resolution),
        labels=jnp.asarray(train.labels),
        val_images=resize(val_images, resolution, (batches, size)),
        val_labels=jnp.asarray(val_labels.reshape(batches, size)),
        mean=jnp.asarray(mean),
        std=jnp.asarray(std),
    )


def standardise(
    images: Float[Array, "n h w c"], mean: Float[Array, " c"], std: Float[Array, " c"]
) -> Float[Array, "n h w c"]:
    """Grey levels to mean 0 and deviation 1 over the training split at its native size."""
    return (images - mean) / std
