from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.training.augment import augment, change_color, change_tone, translate, warp
from scalesearch.training.transforms import Transforms, move_matrices

RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (4, 10, 10, 2)).astype(np.uint8)
STILL = np.zeros((4, 2), np.float32)
ALL, NONE = np.ones(4, bool), np.zeros(4, bool)
PLAIN = Transforms()


def by_planes(function: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """`function`, which takes images channel by channel, on images of pixels."""
    return jax.jit(lambda images, values: jnp.moveaxis(function(jnp.moveaxis(images, 3, 1), values), 1, 3))


warped, colored, toned = map(by_planes, (warp, change_color, change_tone))


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
        moved = np.asarray(
            augment(jnp.asarray(images), jnp.asarray(offsets), jnp.asarray(NONE), PLAIN, shift=0.1, flip=False)
        )
        places = np.arange(20 * factor) + 0.5
        for image, offset in zip(moved[..., 0], offsets, strict=True):
            centre = np.array([image.sum(1) @ places, image.sum(0) @ places]) / image.sum() / (20 * factor)
            np.testing.assert_allclose(centre, 11 / 20 - 0.1 * offset, atol=1e-5)


def test_half_of_the_images_are_mirrored_as_drawn() -> None:
    mirrored = np.array([True, False, True, False])
    out = np.asarray(
        augment(jnp.asarray(IMAGES), jnp.asarray(STILL), jnp.asarray(mirrored), PLAIN, shift=0.0, flip=True)
    )
    np.testing.assert_array_equal(out[0], IMAGES[0, :, ::-1])
    np.testing.assert_array_equal(out[1], IMAGES[1])
    np.testing.assert_array_equal(out[2], IMAGES[2, :, ::-1])


def test_nothing_asked_nothing_done() -> None:
    draws = jnp.asarray(STILL + 1)
    out = augment(jnp.asarray(IMAGES), draws, jnp.asarray(ALL), PLAIN, shift=0.0, flip=False)
    np.testing.assert_array_equal(np.asarray(out), IMAGES)
    assert out.dtype == np.float32


def test_a_warp_takes_the_place_of_shift_and_flip() -> None:
    offsets = RNG.uniform(-1, 1, (4, 2)).astype(np.float32)
    mirrored = np.array([True, False, True, False])
    plain = augment(jnp.asarray(IMAGES), offsets, mirrored, PLAIN, shift=0.2, flip=True)
    transforms = Transforms(warp=move_matrices(0.2 * offsets, mirrored)[:, :2].astype(np.float32))
    out = augment(jnp.asarray(IMAGES), offsets, mirrored, transforms, shift=0.2, flip=True)
    np.testing.assert_allclose(out, plain, atol=1e-3)  # float32 on grey levels up to 255


@pytest.mark.parametrize("shape", [(10, 10), (7, 12)])
def test_the_warp_of_the_whole_image_is_the_image(shape: tuple[int, int]) -> None:
    images = RNG.integers(0, 256, (2, *shape, 3)).astype(np.uint8)
    np.testing.assert_array_equal(warped(jnp.asarray(images), jnp.tile(jnp.eye(3)[:2], (2, 1, 1))), images)


def test_a_warped_picture_is_the_same_at_every_resolution() -> None:
    def picture(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.asarray(128 + 60 * np.sin(4 * rows + 1) + 50 * np.cos(5 * columns))

    matrix = np.array([[0.6, 0.2, 0.05], [-0.3, 0.5, -0.05]], np.float32)  # of places inside the image
    for height, width in ((24, 24), (48, 48), (48, 30)):
        rows, columns = np.meshgrid((np.arange(height) + 0.5) / height - 0.5, (np.arange(width) + 0.5) / width - 0.5)
        rows, columns = rows.T, columns.T
        image = picture(rows, columns)[None, ..., None].astype(np.float32)
        out = np.asarray(warped(jnp.asarray(image), jnp.asarray(matrix[None])))[0, ..., 0]
        places = matrix @ np.stack([rows.ravel(), columns.ravel(), np.ones(rows.size)])
        # linear interpolation errs by at most f″/8 of the squared distance of pixels, for each axis
        np.testing.assert_allclose(out.ravel(), picture(*places), atol=(60 * 16 + 50 * 25) / 8 / 24**2)


def test_factors_of_one_and_tones_of_nothing_change_nothing() -> None:
    images = jnp.asarray(IMAGES, jnp.float32)
    np.testing.assert_array_equal(colored(images, jnp.ones((4, 3))), images)
    np.testing.assert_array_equal(toned(images, jnp.tile(jnp.array([256.0, 1, 0]), (4, 1))), images)


def test_brightness_contrast_and_saturation() -> None:
    images = RNG.uniform(60, 120, (4, 5, 5, 3)).astype(np.float32)
    factors = np.array([[0.5, 1.5, 1], [1, 1.5, 1], [1, 1, 0], [1, 1, 2]], np.float32)
    out = np.asarray(colored(jnp.asarray(images), jnp.asarray(factors)))
    grey = images @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(out[0], (grey[0].mean() + 1.5 * (images[0] - grey[0].mean())) / 2, rtol=1e-5)
    np.testing.assert_allclose(out[1], grey[1].mean() + 1.5 * (images[1] - grey[1].mean()), rtol=1e-5)
    np.testing.assert_allclose(out[2], np.repeat(grey[2, ..., None], 3, -1), rtol=1e-5)
    np.testing.assert_allclose(out[3], 2 * images[3] - grey[3, ..., None], rtol=1e-5)
    brightest = colored(jnp.asarray(images), jnp.full((4, 3), 9.0))
    assert float(brightest.min()) >= 0
    assert float(brightest.max()) == 255


def test_grey_images_have_no_saturation() -> None:
    images = jnp.asarray(IMAGES[..., :1], jnp.float32)
    np.testing.assert_array_equal(colored(images, jnp.tile(jnp.array([1.0, 1, 0]), (4, 1))), images)


def test_solarize_posterize_and_autocontrast() -> None:
    images = IMAGES // 4 + 90
    images[3, ..., 1] = 7  # one grey level, which cannot be stretched
    tones = np.array([[100, 1, 0], [256, 16, 0], [256, 1, 1], [256, 1, 1]], np.float32)
    out = np.asarray(toned(jnp.asarray(images, jnp.float32), jnp.asarray(tones)))
    np.testing.assert_array_equal(out[0], np.where(images[0] >= 100, 255 - images[0], images[0]))
    np.testing.assert_array_equal(out[1], images[1] // 16 * 16)
    np.testing.assert_allclose(out[2].min((0, 1)), 0)
    np.testing.assert_allclose(out[2].max((0, 1)), 255, rtol=1e-6)
    np.testing.assert_array_equal(out[3, ..., 1], 7)
