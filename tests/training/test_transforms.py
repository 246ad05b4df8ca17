"""What is drawn for each image: ranges and distributions."""

from __future__ import annotations

import numpy as np
import pytest

from scalesearch.training.transforms import (
    OPS,
    crop_matrices,
    cutmix_boxes,
    jitter_factors,
    mixup_weights,
    rand_augment,
)

SHAPE = (40, 50)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("smallest", [0.08, 0.5])
def test_crops_lie_in_the_image_and_have_the_areas_asked_for(smallest: float) -> None:
    matrices = crop_matrices(rng(), SHAPE, smallest)
    heights, widths = matrices[..., 0, 0], matrices[..., 1, 1]
    for axis, sides in enumerate((heights, widths)):
        assert 0 < sides.min() <= sides.max() <= 1
        assert (abs(matrices[..., axis, 2]) + sides / 2 <= 0.5 + 1e-12).all()
    assert not matrices[..., [0, 1], [1, 0]].any()
    whole = (heights < 1) & (widths < 1)  # the others are cut off at the side of the image
    areas, aspects = (heights * widths)[whole], (widths / heights)[whole]
    assert smallest <= areas.min() < smallest + 0.02
    assert areas.max() > 0.9
    assert 3 / 4 <= aspects.min() < 0.77
    assert 1.3 < aspects.max() <= 4 / 3 + 1e-12


def test_jitter_is_uniform_around_one() -> None:
    factors = jitter_factors(rng(), SHAPE, 0.4)
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
    assert abs(factors.mean() - 1) < 5 * 0.4 / (3 * 6000) ** 0.5


def test_without_magnitude_only_autocontrast_acts() -> None:
    drawn = rand_augment(rng(), SHAPE, layers=3, magnitude=0)
    assert drawn.warp is not None
    assert drawn.color is not None
    assert drawn.tone is not None
    np.testing.assert_array_equal(drawn.warp, np.broadcast_to(np.eye(3), (*SHAPE, 3, 3)))
    np.testing.assert_array_equal(drawn.color, 1)
    np.testing.assert_array_equal(drawn.tone[..., :2], np.broadcast_to([256.0, 1.0], (*SHAPE, 2)))
    # one of twelve operations in each of three layers
    assert abs(drawn.tone[..., 2].mean() - (1 - (11 / 12) ** 3)) < 5 * (0.23 * 0.77 / 2000) ** 0.5


def test_every_operation_acts_on_its_share_of_images_with_its_magnitude() -> None:
    drawn = rand_augment(rng(), SHAPE, layers=1, magnitude=5)
    assert drawn.warp is not None
    assert drawn.color is not None
    assert drawn.tone is not None
    warp, color, tone = drawn.warp, drawn.color, drawn.tone
    changed = {
        "rotate": warp[..., 0, 0] != 1,
        "shear_x": (warp[..., 1, 0] != 0) & (warp[..., 0, 0] == 1),
        "shear_y": (warp[..., 0, 1] != 0) & (warp[..., 0, 0] == 1),
        "translate_x": warp[..., 1, 2] != 0,
        "translate_y": warp[..., 0, 2] != 0,
        "brightness": color[..., 0] != 1,
        "contrast": color[..., 1] != 1,
        "color": color[..., 2] != 1,
        "solarize": tone[..., 0] != 256,
        "posterize": tone[..., 1] != 1,
        "autocontrast": tone[..., 2] == 1,
    }
    assert {*OPS} == {*changed, "identity"}
    assert sum(acts.astype(int) for acts in changed.values()).max() == 1  # one operation a layer
    for acts in changed.values():
        assert abs(acts.mean() - 1 / 12) < 5 * (11 / 144 / 2000) ** 0.5
    # half of the largest amounts, with both signs
    assert {*np.round(np.degrees(np.arcsin(warp[changed["rotate"]][:, 1, 0])), 9)} == {-15, 15}
    assert {*warp[changed["shear_x"]][:, 1, 0]} == {-0.15, 0.15}
    assert {*warp[changed["translate_y"]][:, 0, 2]} == {-0.225, 0.225}
    assert {*np.round(color[changed["contrast"]][:, 1], 9)} == {0.55, 1.45}
    assert {*tone[changed["solarize"]][:, 0]} == {128}
    assert {*tone[changed["posterize"]][:, 1]} == {4}


def test_rotations_keep_lengths_and_angles() -> None:
    drawn = rand_augment(rng(), SHAPE, layers=1, magnitude=10)
    assert drawn.warp is not None
    rotated = drawn.warp[drawn.warp[..., 0, 0] != 1][:, :2, :2]
    np.testing.assert_allclose(rotated @ rotated.swapaxes(1, 2), np.broadcast_to(np.eye(2), rotated.shape), atol=1e-12)


def test_mixtures_are_of_beta_weights() -> None:
    weights, boxes = mixup_weights(rng(), SHAPE, 0.4), cutmix_boxes(rng(), SHAPE, 1.0)
    assert 0 <= weights.min() <= weights.max() <= 1
    variance = 1 / (4 * (2 * 0.4 + 1))  # of Beta(α, α)
    assert abs(weights.mean() - 0.5) < 5 * (variance / 2000) ** 0.5
    assert abs(weights.var() - variance) < 0.02
    assert 0 <= boxes.min() <= boxes.max() <= 1
    sides = boxes[..., 2:] - boxes[..., :2]
    inside = (boxes > 0).all(-1) & (boxes < 1).all(-1)  # not cut at the border
    np.testing.assert_allclose(sides[inside, 0], sides[inside, 1])
    areas = 1 - rng().beta(1.0, 1.0, SHAPE)
    np.testing.assert_allclose(sides[inside].prod(-1), areas[inside])
    assert (sides.prod(-1) <= areas + 1e-12).all()
