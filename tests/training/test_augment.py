from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.training.augment import augment, translate

RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (4, 10, 10, 2)).astype(np.uint8)
STILL = np.zeros((4, 2), np.float32)
ALL, NONE = np.ones(4, bool), np.zeros(4, bool)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (2.0, -1.0), (0.25, 1.5), (-2.75, 2.999)])
def test_translate_is_linear_interpolation_with_the_border_repeated(offset: tuple[float, float]) -> None:
    image = IMAGES[0].astype(np.float64)
    expected = np.empty_like(image)
    for channel in range(2):
        rows = np.stack(
            [np.interp(np.arange(10) + offset[0], np.arange(10), image[:, x, channel]) for x in range(10)], 1
        )
        expected[..., channel] = np.stack([np.interp(np.arange(10) + offset[1], np.arange(10), row) for row in rows])
    moved = np.asarray(translate(jnp.asarray(IMAGES[0]), jnp.asarray(offset), reach=3))
    np.testing.assert_allclose(moved, expected, atol=1e-3)  # float32 on grey levels up to 255


def test_offsets_are_fractions_of_the_image_whatever_its_resolution() -> None:
    offsets = np.array([[1, 0], [0, -1], [0.5, 0.5], [-1, -1]], np.float32)
    for factor in (1, 3):
        images = np.zeros((4, 20 * factor, 20 * factor, 1), np.uint8)
        images[:, 10 * factor : 12 * factor, 10 * factor : 12 * factor] = 255
        moved = np.asarray(augment(jnp.asarray(images), jnp.asarray(offsets), jnp.asarray(NONE), shift=0.1, flip=False))
        places = np.arange(20 * factor) + 0.5
        for image, offset in zip(moved[..., 0], offsets, strict=True):
            centre = np.array([image.sum(1) @ places, image.sum(0) @ places]) / image.sum() / (20 * factor)
            np.testing.assert_allclose(centre, 11 / 20 - 0.1 * offset, atol=1e-5)


def test_half_of_the_images_are_mirrored_as_drawn() -> None:
    mirrored = np.array([True, False, True, False])
    out = np.asarray(augment(jnp.asarray(IMAGES), jnp.asarray(STILL), jnp.asarray(mirrored), shift=0.0, flip=True))
    np.testing.assert_array_equal(out[0], IMAGES[0, :, ::-1])
    np.testing.assert_array_equal(out[1], IMAGES[1])
    np.testing.assert_array_equal(out[2], IMAGES[2, :, ::-1])


def test_nothing_asked_nothing_done() -> None:
    draws = jnp.asarray(STILL + 1)
    out = augment(jnp.asarray(IMAGES), draws, jnp.asarray(ALL), shift=0.0, flip=False)
    np.testing.assert_array_equal(np.asarray(out), IMAGES)
    assert out.dtype == np.float32
