"""What hands batches to the device: all images at once, resized once, one byte per value; or a stream of chunks."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from scalesearch.data.cache import ImageCache, OnDone, Recipe, recipe_of
from scalesearch.data.images import Pictures, Split
from scalesearch.data.resize import resize, resize_in_parts
from scalesearch.data.splits import native_resolution
from scalesearch.data.statistics import channel_statistics, statistics_of
from scalesearch.data.stream import CHUNK_BYTES, CHUNKS_AT_ONCE, ImageStream

PADDING_LABEL = -1


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class EpochData:
    """Training images, validation batches whose last one is padded, and the training split's statistics.

    Grey levels stay uint8, which takes a quarter of float32's memory: rounding adds an error of at most half the
    source's own quantisation step. `mean` and `std` are in grey levels, one per channel.
    `class_weights` are those of `balancing_weights`; None if balanced accuracy is not asked for.
    """

    images: UInt8[Array, "n h w c"]
    labels: Int[Array, " n"]
    val_images: UInt8[Array, "batches b h w c"]
    val_labels: Int[Array, "batches b"]
    mean: Float[Array, " c"]
    std: Float[Array, " c"]
    class_weights: Float[Array, " k"] | None = None


Feed: TypeAlias = EpochData | ImageStream
"""What hands batches to the device. Which of the two changes no result."""

MEMORY_SHARE = 0.25
"""The share of a device's memory up to which all images lie on it. The data of three networks may: one that trains, and
two that are prepared meanwhile."""


def prepare(
    train: Split,
    validation: Split,
    resolution: int,
    batch_size: int,
    *,
    evaluation_resolution: int | None = None,
    balanced: bool = False,
    memory: float = math.inf,
    cache: ImageCache | None = None,
    on_images: OnDone = lambda resolution, done, total: None,
) -> Feed:
    """The data of one candidate, on the default device if they fit. Warns if `resolution` is above the native one.

    Args:
        train: the images to train on, whose statistics standardise all images.
        validation: the images to evaluate on.
        resolution: height and width that the candidate takes.
        batch_size: the most images of a validation batch.
        evaluation_resolution: height and width of validation images, if other than those to train on.
        balanced: whether evaluation computes balanced accuracy, too.
        memory: bytes of the device. Images that take more than a share of them stay on the host.
        cache: where images are kept that were decoded, or resized to be streamed; None for the user's.
        on_images: called while these are made.
    """
    native = native_resolution(train.images)
    if resolution > native:
        warnings.warn(
            f"some candidates see images above the data's native resolution of {native} px: "
            f"these are enlarged, which costs more and shows no more",
            stacklevel=2,
        )
    cache = cache or ImageCache()
    judged = evaluation_resolution or resolution
    channels = train.images.channels if isinstance(train.images, Pictures) else train.images.shape[-1]
    streams = (len(train) * resolution**2 + len(validation) * judged**2) * channels > MEMORY_SHARE * memory

    # Pictures are decoded at the resolution, and have its statistics; arrays have those of their native resolution.
    if isinstance(train.images, Pictures):
        made = cache.images(recipe_of(train.images, resolution), on_images)
        train_images, (mean, std) = made.pixels, statistics_of(made.counts)
    else:
        train_images, (mean, std) = train.images, channel_statistics(train.images)
    val_images = validation.images
    if isinstance(val_images, Pictures):
        val_images = cache.images(recipe_of(val_images, judged), on_images).pixels

    # Validation in whole batches: padding images have a label that is ignored.
    size = min(batch_size, len(validation))
    batches = -(-len(validation) // size)
    missing = batches * size - len(validation)
    val_labels = np.pad(validation.labels.astype(np.int32), (0, missing), constant_values=PADDING_LABEL)
    val_labels = val_labels.reshape(batches, size)
    class_weights = balancing_weights(validation.labels) if balanced else None

    if streams:
        train_images, val_images = (
            images if images.shape[1] == side else cache.images(_resizing(images, side), on_images).pixels
            for images, side in ((train_images, resolution), (val_images, judged))
        )
        chunk_bytes = int(min(CHUNK_BYTES, MEMORY_SHARE * memory / CHUNKS_AT_ONCE))
        return ImageStream(train_images, train.labels, val_images, val_labels, mean, std, chunk_bytes, class_weights)
    if missing:
        val_images = np.pad(val_images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    return EpochData(
        images=resize(train_images, resolution),
        labels=jnp.asarray(train.labels),
        val_images=resize(val_images, judged, (batches, size)),
        val_labels=jnp.asarray(val_labels),
        mean=jnp.asarray(mean),
        std=jnp.asarray(std),
        class_weights=None if class_weights is None else jnp.asarray(class_weights),
    )


def standardised_by(data: Feed, mean: Sequence[float], std: Sequence[float]) -> Feed:
    """`data` whose images are standardised by these, and not by the statistics of their training split."""
    means, deviations = np.array(mean, np.float32), np.array(std, np.float32)
    if isinstance(data, ImageStream):
        return dataclasses.replace(data, mean=means, std=deviations)
    placed = jax.device_put((means, deviations), data.mean.sharding)
    return dataclasses.replace(data, mean=placed[0], std=placed[1])


def balancing_weights(labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " k"]:
    """The weight of an image of each class, so that all classes weigh the same and all images 1 together.

    >>> balancing_weights(np.array([0, 0, 2, 2, 2, 2])).tolist()
    [0.25, 0.0, 0.125]
    """
    counts = np.bincount(labels)
    return np.where(counts > 0, 1 / (np.maximum(counts, 1) * np.count_nonzero(counts)), 0).astype(np.float32)


def _resizing(images: UInt8[np.ndarray, "n h w c"], resolution: int) -> Recipe:
    """How an array of images becomes one of another resolution."""
    digest = hashlib.sha256(f"1 array {images.shape} {resolution} ".encode())
    digest.update(np.ascontiguousarray(images).data)
    return Recipe(
        digest.hexdigest()[:32],
        (len(images), resolution, resolution, images.shape[-1]),
        lambda start: resize_in_parts(images, resolution, start),
    )


def standardise(
    images: Float[Array, "n h w c"], mean: Float[Array, " c"], std: Float[Array, " c"]
) -> Float[Array, "n h w c"]:
    """Grey levels to mean 0 and deviation 1 over the training split at its native size."""
    return (images - mean) / std
