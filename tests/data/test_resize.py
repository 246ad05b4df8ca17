"""Resampling, by numpy and by XLA: a triangle filter that does not alias, whatever the chunks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import pytest

from scalesearch.data.resize import resize

RNG = np.random.default_rng(0)
Resize = Callable[..., jax.Array]


def reference_weights(native: int, resolution: int) -> np.ndarray:
    """Triangle filter of half-width max(1, native/resolution) source pixels about each output centre, summing to 1."""
    scale = native / resolution
    radius = max(1.0, scale)
    centres = (np.arange(resolution) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(native)[None] - centres[:, None]) / radius)
    return weights / weights.sum(1, keepdims=True)


@pytest.fixture(params=[True, False], ids=["host", "device"])
def resized(request: pytest.FixtureRequest) -> Resize:
    """`resize` as on a CPU, then as on an accelerator."""
    return partial(resize, on_host=request.param)


@pytest.mark.parametrize(("native", "resolution"), [(28, 12), (28, 14), (9, 5), (8, 13)])
def test_resize_is_a_triangle_filter_rounded_to_grey_levels(resized: Resize, native: int, resolution: int) -> None:
    images = RNG.integers(0, 256, (3, native, native, 2)).astype(np.uint8)
    weights = reference_weights(native, resolution)
    expected = np.einsum("yi,xj,nijc->nyxc", weights, weights, images.astype(np.float64))
    values = np.asarray(resized(images, resolution)).astype(np.float64)
    # half a grey level from rounding, and float32's own error of a few 1e-5 at 255
    assert np.abs(values - expected).max() <= 0.5 + 1e-3
    assert np.abs(values - expected).mean() > 0.1  # it is rounded, so half of that is the rule: 0.25


def test_resize_in_several_chunks_equals_one_by_one(resized: Resize) -> None:
    images = RNG.integers(0, 256, (7, 6, 6, 1)).astype(np.uint8)
    alone = np.concatenate([np.asarray(resized(images[i : i + 1], 4)) for i in range(7)])
    np.testing.assert_array_equal(np.asarray(resized(images, 4, chunk_values=3 * 36)), alone)


def test_images_are_arranged_as_asked_whatever_the_chunks(resized: Resize) -> None:
    images = RNG.integers(0, 256, (6, 6, 6, 1)).astype(np.uint8)
    for side in (4, 6):
        flat = np.asarray(resized(images, side))
        arranged = np.asarray(resized(images, side, (2, 3), chunk_values=4 * 36))  # four images, then the last four
        np.testing.assert_array_equal(arranged, flat.reshape(2, 3, side, side, 1))


def test_constant_and_ramp_survive_and_native_size_is_untouched(resized: Resize) -> None:
    constant = np.full((1, 28, 28, 1), 77, np.uint8)
    assert (np.asarray(resized(constant, 11)) == 77).all()
    ramp = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8)[None, None, :, None], (1, 24, 24, 1))
    halved = np.asarray(resized(np.ascontiguousarray(ramp), 12))[0, 0, :, 0]
    # a symmetric filter keeps a ramp: centres of the output lie at (2i + 0.5) pixels; the ends lose a tap outside
    np.testing.assert_array_equal(halved[1:-1], (np.arange(12) * 20 + 5)[1:-1])
    images = RNG.integers(0, 256, (2, 5, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(resized(images, 5)), images)


def test_antialiasing_turns_a_checkerboard_grey(resized: Resize) -> None:
    board = (np.indices((24, 24)).sum(0) % 2 * 255).astype(np.uint8)[None, :, :, None]
    naive = jax.image.resize(board.astype(np.float32), (1, 8, 8, 1), "linear", antialias=False)
    assert np.asarray(naive).std() > 100  # aliases to a full-contrast board
    assert np.abs(np.asarray(resized(board, 8))[0, 1:-1, 1:-1].astype(float) - 127.5).max() < 255 / 9
