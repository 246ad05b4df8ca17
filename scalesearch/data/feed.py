"""The arrays on the device that epochs read their batches from: resized once, one byte per value."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from scalesearch.data.images import Pictures, Split
from scalesearch.data.pictures import at_resolution
from scalesearch.data.resize import CHUNK_VALUES, resize
from scalesearch.data.splits import native_resolution

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


def prepare(train: Split, validation: Split, resolution: int, batch_size: int) -> EpochData:
    """The data of one candidate on the default device. Warns if `resolution` is above the native one.

    Args:
        train: the images to train on, whose statistics standardise all images.
        validation: the images to evaluate on.
        resolution: height and width that the candidate takes.
        batch_size: the most images of a validation batch.
    """
    native = native_resolution(train.images)
    if resolution > native:
        warnings.warn(
            f"some candidates see images above the data's native resolution of {native} px: "
            f"these are enlarged, which costs more and shows no more",
            stacklevel=2,
        )
    train_images, val_images = (
        at_resolution(split.images, resolution) if isinstance(split.images, Pictures) else split.images
        for split in (train, validation)
    )
    mean, std = channel_statistics(train_images)

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


def channel_statistics(
    images: UInt8[np.ndarray, "n h w c"], chunk_values: int = CHUNK_VALUES
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Mean and standard deviation of each channel in grey levels, exact: from a histogram of the 256 levels.

    A channel that never changes has deviation 1, so that it is standardised to 0. `chunk_values` are counted at a
    time, which bounds memory.

    >>> channel_statistics(np.full((2, 3, 3, 1), 7, np.uint8))
    (array([7.], dtype=float32), array([1.], dtype=float32))
    """
    levels = np.arange(256, dtype=np.float64)
    channels = images.shape[-1]
    histograms = np.zeros((channels, 256), np.int64)
    for part in np.array_split(images, -(-images.size // chunk_values)):  # `bincount` copies its input as int64
        histograms += [np.bincount(part[..., c].reshape(-1), minlength=256) for c in range(channels)]
    shares = histograms / histograms.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def standardise(
    images: Float[Array, "n h w c"], mean: Float[Array, " c"], std: Float[Array, " c"]
) -> Float[Array, "n h w c"]:
    """Grey levels to mean 0 and deviation 1 over the training split at its native size."""
    return (images - mean) / std
