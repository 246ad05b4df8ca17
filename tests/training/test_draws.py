from __future__ import annotations

import numpy as np

from scalesearch.training.draws import EpochDraws, Stream, draws_of_epoch


def draws(seed: int, epoch: int) -> EpochDraws:
    return draws_of_epoch(np.uint32(seed), epoch, images=53, batch_size=10)


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
    together = draws_of_epoch(np.arange(3, dtype=np.uint32), 1, images=53, batch_size=10)
    for seed in range(3):
        alone = draws(seed, 1)
        for name in ("order", "offsets", "mirrored", "dropout"):
            np.testing.assert_array_equal(getattr(together, name)[seed], getattr(alone, name))


def test_distributions() -> None:
    drawn = draws_of_epoch(np.uint32(0), 0, images=20_000, batch_size=100)
    offsets = drawn.offsets
    # uniform on ±1: mean 0 and variance 1/3, within five standard errors of 40,000 draws
    assert abs(offsets.mean()) < 5 * (1 / 3 / 40_000) ** 0.5
    assert abs((offsets**2).mean() - 1 / 3) < 5 * (4 / 45 / 40_000) ** 0.5
    assert -1 <= offsets.min() <= offsets.max() <= 1
    assert abs(drawn.mirrored.mean() - 0.5) < 5 * (0.25 / 20_000) ** 0.5


def test_streams_differ() -> None:
    assert len(Stream) == 4  # an enum with two equal values would have three members
    drawn = draws_of_epoch(np.uint32(5), 0, images=40, batch_size=20)
    for stream in (Stream.INIT, Stream.AUGMENT, Stream.DROPOUT):
        other = np.random.default_rng([5, int(stream), 0]).permutation(40).reshape(2, 20)
        assert (other != drawn.order).any()
    np.testing.assert_array_equal(drawn.order, np.random.default_rng([5, 1, 0]).permutation(40).reshape(2, 20))
