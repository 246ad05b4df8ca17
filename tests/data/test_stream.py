"""What a stream hands out: the images in the order asked for, in chunks of equal length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scalesearch.data.cache import ImageCache
from scalesearch.data.feed import MEMORY_SHARE, EpochData, prepare
from scalesearch.data.images import Split
from scalesearch.data.stream import ImageStream

RNG = np.random.default_rng(0)


def some_split(count: int, side: int = 6) -> Split:
    return Split(RNG.integers(0, 256, (count, side, side, 1)).astype(np.uint8), np.arange(count, dtype=np.int32) % 3)


@pytest.mark.parametrize("seeds", [(), (2,)])
def test_training_images_come_in_the_order_of_the_draws(seeds: tuple[int, ...]) -> None:
    train = some_split(20)
    stream = prepare(train, some_split(5), 6, 3, memory=0)
    assert isinstance(stream, ImageStream)
    order = np.stack([RNG.permutation(20)[:15].reshape(5, 3) for _ in range(2)])
    order = order if seeds else order[0]
    chunks = list(stream.with_chunks_of(2 * order[..., :1, :].size * 36).train_chunks(order))
    assert [chunk.images.shape for chunk in chunks] == [(*seeds, 2, 3, 6, 6, 1)] * 3
    images = np.concatenate([np.asarray(chunk.images) for chunk in chunks], len(seeds))
    labels = np.concatenate([np.asarray(chunk.labels) for chunk in chunks], len(seeds))
    np.testing.assert_array_equal(images[..., :5, :, :, :, :], train.images[order])
    np.testing.assert_array_equal(labels[..., :5, :], train.labels[order])


def test_validation_batches_are_padded_with_labels_that_count_nowhere() -> None:
    validation = some_split(14)
    stream = prepare(some_split(5), validation, 6, 3, memory=0)
    assert isinstance(stream, ImageStream)
    chunks = list(stream.with_chunks_of(2 * 3 * 36).val_chunks())
    images = np.concatenate([np.asarray(chunk.images) for chunk in chunks]).reshape(-1, 6, 6, 1)
    labels = np.concatenate([np.asarray(chunk.labels) for chunk in chunks]).reshape(-1)
    assert len(labels) == 18
    np.testing.assert_array_equal(images[:14], validation.images)
    np.testing.assert_array_equal(labels[:14], validation.labels)
    assert (labels[14:] == -1).all()


def test_images_lie_on_the_device_as_long_as_they_take_a_small_share_of_it() -> None:
    train, validation = some_split(8), some_split(4)
    memory = 12 * 36 / MEMORY_SHARE
    assert isinstance(prepare(train, validation, 6, 4, memory=memory), EpochData)
    assert isinstance(prepare(train, validation, 6, 4, memory=memory - 1), ImageStream)


def test_a_stream_holds_what_would_lie_on_the_device(tmp_path: Path) -> None:
    train, validation = some_split(8), some_split(4)
    data = prepare(train, validation, 5, 4)
    cache = ImageCache(tmp_path)
    stream = prepare(train, validation, 5, 4, memory=0, cache=cache)
    assert isinstance(data, EpochData)
    assert isinstance(stream, ImageStream)
    for name in ("images", "labels", "val_labels", "mean", "std"):
        np.testing.assert_array_equal(getattr(stream, name), np.asarray(getattr(data, name)))
    np.testing.assert_array_equal(stream.val_images, np.asarray(data.val_images)[0])
    assert cache.size()[0] == 2  # resized images are kept
