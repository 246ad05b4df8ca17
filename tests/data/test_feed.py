"""What epochs read: exact statistics, and validation in whole batches whose padding counts nowhere."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.data.feed import prepare, standardise
from scalesearch.data.sources import Split
from scalesearch.data.statistics import channel_statistics

RNG = np.random.default_rng(0)


def test_statistics_are_exact_per_channel_and_standardise_to_zero_and_one() -> None:
    images = RNG.integers(0, 200, (50, 6, 6, 3)).astype(np.uint8)
    images[..., 2] = 9
    mean, std = channel_statistics(images, chunk_values=1000)  # several parts
    wide = images.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-7)  # float32 of an exact value
    np.testing.assert_allclose(std[:2], wide.std((0, 1, 2))[:2], rtol=1e-7)
    assert std[2] == 1
    out = np.asarray(standardise(jnp.asarray(images, jnp.float32), jnp.asarray(mean), jnp.asarray(std)))
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 1, 2)), [1, 1, 0], atol=1e-5)


def some_split(count: int) -> Split:
    return Split(RNG.integers(0, 256, (count, 8, 8, 1)).astype(np.uint8), np.arange(count, dtype=np.int32) % 3)


@pytest.mark.parametrize(("count", "batch", "shape"), [(7, 3, (3, 3)), (6, 3, (2, 3)), (2, 5, (1, 2))])
def test_validation_is_padded_with_labels_that_count_nowhere(count: int, batch: int, shape: tuple[int, int]) -> None:
    train, validation = some_split(5), some_split(count)
    data = prepare(train, validation, 8, batch)
    assert data.val_labels.shape == shape
    labels = np.asarray(data.val_labels).reshape(-1)
    np.testing.assert_array_equal(labels[:count], validation.labels)
    assert (labels[count:] == -1).all()
    flat = np.asarray(data.val_images).reshape(-1, 8, 8, 1)
    np.testing.assert_array_equal(flat[:count], validation.images)
    mean, _ = channel_statistics(train.images)
    np.testing.assert_array_equal(np.asarray(data.mean), mean)  # the training split's, not validation's
    assert data.images.dtype == data.val_images.dtype == np.uint8


def test_enlarging_warns_and_nothing_else_does() -> None:
    with pytest.warns(UserWarning, match="above the data's native resolution of 8 px"):
        prepare(some_split(4), some_split(4), 9, 2)
    prepare(some_split(4), some_split(4), 8, 2)  # warnings are errors
