from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from scalesearch.study.training import TrainingSection
from scalesearch.training.draws import EpochDraws, Stream, draws_of_epoch

EVERYTHING: dict[str, Any] = {
    "shift": 0.1,
    "flip": True,
    "crop": 0.3,
    "color_jitter": 0.4,
    "rand_augment": 2,
    "mixup": 0.4,
    "cutmix": 1.0,
}


def training(batch_size: int = 10, **settings: Any) -> TrainingSection:
    return TrainingSection(epochs=2, batch_size=batch_size, learning_rate=0.1, **settings)


def draws(seed: int, epoch: int, **settings: Any) -> EpochDraws:
    return draws_of_epoch(np.uint32(seed), epoch, training(**settings), images=53)


def test_an_epoch_sees_every_image_at_most_once_and_drops_the_remainder() -> None:
    order = draws(0, 0).order
    assert order.shape == (5, 10)
    assert len(np.unique(order)) == 50
    assert 0 <= order.min() <= order.max() < 53
    left_out = [set(range(53)) - set(draws(0, epoch).order.ravel().tolist()) for epoch in range(4)]
    assert len({frozenset(rest) for rest in left_out}) > 1  # not the same images every time


def test_seed_and_epoch_choose_the_draws_and_nothing_else_does() -> None:
    for name in ("order", "offsets", "mirrored", "dropout"):
        same, again = (getattr(draws(3, 2), name) for _ in range(2))
        np.testing.assert_array_equal(same, again)
        for other in (draws(4, 2), draws(3, 1)):
            assert (getattr(other, name) != same).any()


def test_seeds_side_by_side_draw_what_they_draw_alone() -> None:
    together = draws_of_epoch(np.arange(3, dtype=np.uint32), 1, training(**EVERYTHING), images=53)
    for seed in range(3):
        alone = draws(seed, 1, **EVERYTHING)
        assert len(jax.tree.leaves(alone)) == 9
        for every, one in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_array_equal(every[seed], one)


def test_distributions() -> None:
    drawn = draws_of_epoch(np.uint32(0), 0, training(100), images=20_000)
    offsets = drawn.offsets
    # uniform on ±1: mean 0 and variance 1/3, within five standard errors of 40,000 draws
    assert abs(offsets.mean()) < 5 * (1 / 3 / 40_000) ** 0.5
    assert abs((offsets**2).mean() - 1 / 3) < 5 * (4 / 45 / 40_000) ** 0.5
    assert -1 <= offsets.min() <= offsets.max() <= 1
    assert abs(drawn.mirrored.mean() - 0.5) < 5 * (0.25 / 20_000) ** 0.5


def test_streams_differ() -> None:
    assert len(Stream) == 9  # an enum with two equal values would have eight members
    drawn = draws_of_epoch(np.uint32(5), 0, training(20), images=40)
    for stream in (Stream.INIT, Stream.AUGMENT, Stream.DROPOUT):
        other = np.random.default_rng([5, int(stream), 0]).permutation(40).reshape(2, 20)
        assert (other != drawn.order).any()
    np.testing.assert_array_equal(drawn.order, np.random.default_rng([5, 1, 0]).permutation(40).reshape(2, 20))


def test_augmentation_changes_no_other_draw_and_draws_nothing_when_off() -> None:
    off, on = draws(3, 2), draws(3, 2, **EVERYTHING)
    assert len(jax.tree.leaves(off)) == 4
    for name in ("order", "offsets", "mirrored", "dropout"):
        np.testing.assert_array_equal(getattr(off, name), getattr(on, name))


@pytest.mark.parametrize("key", ["crop", "color_jitter", "rand_augment", "mixup", "cutmix"])
def test_each_augmentation_draws_from_a_stream_of_its_own(key: str) -> None:
    """The first seed's epoch differs from the next seed's and from the next epoch's, whatever else is drawn."""
    alone = draws(3, 2, **{key: EVERYTHING[key]}).transforms
    leaves = jax.tree.leaves(alone)
    assert leaves
    assert all(leaf.shape[:2] == (5, 10) and leaf.dtype == np.float32 for leaf in leaves)
    for seed, epoch in ((4, 2), (3, 1)):
        others = jax.tree.leaves(draws(seed, epoch, **{key: EVERYTHING[key]}).transforms)
        assert all((one != other).any() for one, other in zip(leaves, others, strict=True))


def test_jitter_and_rand_augment_multiply_their_factors() -> None:
    both = draws(0, 0, color_jitter=0.4, rand_augment=2).transforms
    jitter, operations = (draws(0, 0, **each).transforms for each in ({"color_jitter": 0.4}, {"rand_augment": 2}))
    assert both.color is not None
    assert jitter.color is not None
    assert operations.color is not None
    np.testing.assert_allclose(both.color, jitter.color * operations.color, rtol=1e-6)
    np.testing.assert_array_equal(both.warp, operations.warp)


def test_a_warp_holds_shift_and_flip_where_they_are_on() -> None:
    plain, moved = (draws(0, 0, crop=0.5, **each).transforms.warp for each in ({}, {"shift": 0.1, "flip": True}))
    assert plain is not None
    assert moved is not None
    drawn = draws(0, 0)
    sides = plain[..., [0, 1], [0, 1]]
    assert (sides > 0).all()  # nothing mirrored
    np.testing.assert_array_equal(moved[..., 1, 1], np.where(drawn.mirrored, -1, 1) * sides[..., 1])
    np.testing.assert_allclose(moved[..., 2], plain[..., 2] + 0.1 * drawn.offsets * sides, atol=1e-6)  # float32


def test_an_image_takes_mixup_or_cutmix() -> None:
    drawn = draws_of_epoch(np.uint32(0), 0, training(100, mixup=0.4, cutmix=1.0), images=2000).transforms
    assert drawn.blend is not None
    assert drawn.box is not None
    blended, boxed = drawn.blend > 0, drawn.box.any(-1)
    assert not (blended & boxed).any()
    assert 800 < boxed.sum() < 1200  # 1000 with a standard deviation of 22
    assert 800 < blended.sum() < 1200
