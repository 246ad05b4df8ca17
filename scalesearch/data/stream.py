"""Images that stay in the host's memory or on its disk, and reach the device in chunks of many steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from scalesearch.data.resize import aligned

CHUNK_BYTES = 2**26
"""Images of a chunk."""

_AHEAD = 2

CHUNKS_AT_ONCE = 2 + _AHEAD
"""One that the device computes with, one that it gets next, and those that are gathered or wait."""

HostChunk: TypeAlias = tuple[UInt8[np.ndarray, "*s steps batch h w c"], Int[np.ndarray, "*s steps batch"]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class Chunk:
    """Images of several steps or batches on the device, and their labels; with leading axes for several seeds."""

    images: UInt8[Array, "*s steps batch h w c"]
    labels: Int[Array, "*s steps batch"]


@dataclass(frozen=True, slots=True)
class ImageStream:
    """All images at one resolution on the host, and the training split's statistics, as in `EpochData`.

    Attributes:
        images: the training images, in any array that can be read in parts.
        labels: their classes.
        val_images: the validation images.
        val_labels: their classes in whole batches; those that pad the last one are negative.
        mean: of each channel, in grey levels.
        std: of each channel, in grey levels.
        chunk_bytes: the most bytes of images in a chunk, unless one step takes more.
        class_weights: as in `EpochData`.
    """

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]
    val_images: UInt8[np.ndarray, "m h w c"]
    val_labels: Int[np.ndarray, "batches b"]
    mean: Float[np.ndarray, " c"]
    std: Float[np.ndarray, " c"]
    chunk_bytes: int = CHUNK_BYTES
    class_weights: Float[np.ndarray, " k"] | None = None

    def steps_per_chunk(self, shape: tuple[int, ...]) -> int:
        """Steps of each chunk for an order of images of this shape (*seeds, steps, batch): chunks are equally long.

        >>> images, labels = np.zeros((10, 2, 2, 1), np.uint8), np.zeros(10, np.int32)
        >>> stream = ImageStream(images, labels, images, labels[None], labels[:1], labels[:1], chunk_bytes=30)
        >>> stream.steps_per_chunk((5, 2))
        3
        """
        *seeds, steps, batch = shape
        bytes_per_step = int(np.prod(seeds)) * batch * int(np.prod(self.images.shape[1:]))
        most = max(1, self.chunk_bytes // bytes_per_step)
        chunks = -(-steps // most)
        return -(-steps // chunks)

    @property
    def batches_per_chunk(self) -> int:
        """Validation batches of each chunk."""
        return self.steps_per_chunk(self.val_labels.shape)

    def train_chunks(
        self, order: Int[np.ndarray, "*s steps batch"], sharding: Any = None, first: int = 0
    ) -> Generator[Chunk, None, None]:
        """The training images in this order, chunk after chunk; the last one may repeat an image to be as long.

        Args:
            order: places of images.
            sharding: where chunks lie on the devices; None for the default device.
            first: the step with which the first chunk begins.
        """
        steps = self.steps_per_chunk(order.shape)
        order = order[..., first:, :]
        count = order.shape[-2]
        chunks = -(-count // steps)
        order = np.pad(order, [(0, 0)] * (order.ndim - 2) + [(0, chunks * steps - count), (0, 0)])
        source = np.asarray(self.images)  # not a memmap, whose parts are slow to make

        def make(place: int) -> HostChunk:
            part = order[..., place * steps : (place + 1) * steps, :]
            images = aligned((*part.shape, *source.shape[1:]))
            np.take(source, part, axis=0, out=images, mode="clip")  # other modes copy
            return images, self.labels[part]

        yield from _prefetched(make, chunks, sharding)

    def val_chunks(self, sharding: Any = None) -> Generator[Chunk, None, None]:
        """The validation batches, chunk after chunk, padded by batches of negative labels."""
        batches, (count, size) = self.batches_per_chunk, self.val_labels.shape
        chunks = -(-count // batches)
        labels = np.pad(self.val_labels, [(0, chunks * batches - count), (0, 0)], constant_values=-1)

        def make(place: int) -> HostChunk:
            first = place * batches * size
            part = self.val_images[first : first + batches * size]
            images = aligned((batches * size, *part.shape[1:]))
            images[: len(part)], images[len(part) :] = part, 0
            arranged = images.reshape(batches, size, *part.shape[1:])
            return arranged, labels[place * batches : (place + 1) * batches]

        yield from _prefetched(make, chunks, sharding)

    def with_chunks_of(self, chunk_bytes: int) -> ImageStream:
        """The same images in chunks of at most so many bytes."""
        return replace(self, chunk_bytes=chunk_bytes)


def _prefetched(make: Callable[[int], HostChunk], count: int, sharding: Any) -> Generator[Chunk, None, None]:
    """Chunks 0 … `count` − 1 on the device, made in a thread, two ahead of the one that is taken."""
    import grain  # takes a second or more, and only who streams needs it

    dataset = grain.MapDataset.range(count).map(lambda place: Chunk(*jax.device_put(make(place), sharding)))
    iterator = iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=_AHEAD)))
    try:
        yield from iterator
    finally:
        iterator.close()
