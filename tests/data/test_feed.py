from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.data import feed as pipeline
from scalesearch.data.feed import channel_statistics, prepare, resize, standardise
from scalesearch.data.sources import Split

RNG = np.random.default_rng(0)


def reference_weights(native: int, resolution: int) -> np.ndarray:
    """Triangle filter of half-width max(1, native/resolution) source pixels about each output centre, summing to 1."""
    scale = native / resolution
    radius = max(1.0, scale)
    centres = (np.arange(resolution) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(native)[None] - centres[:, None]) / radius)
    return weights / weights.sum(1, keepdims=True)


@pytest.fixture(autouse=True, params=["host", "device"])
def _resized_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests here, resized as on a CPU, then as on an accelerator."""
    if request.param == "device":
        monkeypatch.setattr(pipeline, "_resize_on_host", pipeline._resize_on_device)


@pytest.mark.parametrize(("native", "resolution"), [(28, 12), (28, 14), (9, 5), (8, 13)])
def test_resize_is_a_triangle_filter_rounded_to_grey_levels(native: int, resolution: int) -> None:
    images = RNG.integers(0, 256, (3, native, native, 2)).astype(np.uint8)
    weights = reference_weights(native, resolution)
    expected = np.einsum("yi,xj,nijc->nyxc", weights, weights, images.astype(np.float64))
    found = np.asarray(resize(images, resolution)).astype(np.float64)
    # half a grey level from rounding, and float32's own error of a few 1e-5 at 255
    assert np.abs(found - expected).max() <= 0.5 + 1e-3
    assert np.abs(found - expected).mean() > 0.1  # it is rounded, so half of that is the rule: 0.25


def test_resize_in_several_chunks_equals_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    images = RNG.integers(0, 256, (7, 6, 6, 1)).astype(np.uint8)
    alone = np.concatenate([np.asarray(resize(images[i : i + 1], 4)) for i in range(7)])
    monkeypatch.setattr("scalesearch.data.feed._CHUNK_VALUES", 3 * 36)
    np.testing.assert_array_equal(np.asarray(resize(images, 4)), alone)


def test_images_are_arranged_as_asked_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = RNG.integers(0, 256, (6, 6, 6, 1)).astype(np.uint8)
    for side in (4, 6):
        flat = np.asarray(resize(images, side))
        with monkeypatch.context() as patch:
            patch.setattr("scalesearch.data.feed._CHUNK_VALUES", 4 * 36)  # four images, then the last four
            arranged = np.asarray(resize(images, side, (2, 3)))
        np.testing.assert_array_equal(arranged, flat.reshape(2, 3, side, side, 1))


def test_constant_and_ramp_survive_and_native_size_is_untouched() -> None:
    constant = np.full((1, 28, 28, 1), 77, np.uint8)
    assert (np.asarray(resize(constant, 11)) == 77).all()
    ramp = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8)[None, None, :, None], (1, 24, 24, 1))
    halved = np.asarray(resize(np.ascontiguousarray(ramp), 12))[0, 0, :, 0]
    # a symmetric filter keeps a ramp: centres of the output lie at (2i + 0.5) pixels; the ends lose a tap outside
    np.testing.assert_array_equal(halved[1:-1], (np.arange(12) * 20 + 5)[1:-1])
    images = RNG.integers(0, 256, (2, 5, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(resize(images, 5)), images)


def test_antialiasing_turns_a_checkerboard_grey() -> None:
    board = (np.indices((24, 24)).sum(0) % 2 * 255).astype(np.uint8)[None, :, :, None]
    naive = jax.image.resize(board.astype(np.float32), (1, 8, 8, 1), "linear", antialias=False)
    assert np.asarray(naive).std() > 100  # aliases to a full-contrast board
    assert np.abs(np.asarray(resize(board, 8))[0, 1:-1, 1:-1].astype(float) - 127.5).max() < 255 / 9


def test_statistics_are_exact_per_channel_and_standardise_to_zero_and_one(monkeypatch: pytest.MonkeyPatch) -> None:
    images = RNG.integers(0, 200, (50, 6, 6, 3)).astype(np.uint8)
    images[..., 2] = 9
    monkeypatch.setattr("scalesearch.data.feed._CHUNK_VALUES", 1000)  # several parts
    mean, std = channel_statistics(images)
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
