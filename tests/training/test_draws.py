from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from scalesearch.training.draws import EpochDraws, Stream, draws_of_epoch, stream_key


def draws(seed: int, epoch: int) -> EpochDraws:
    return draws_of_epoch(jnp.uint32(seed), jnp.int32(epoch), images=53, batch_size=10)


def test_an_epoch_sees_every_image_at_most_once_and_drops_the_remainder() -> None:
    order = np.asarray(draws(0, 0).order)
    assert order.shape == (5, 10)
    assert len(np.unique(order)) == 50
    assert 0 <= order.min() <= order.max() < 53
    left_out = [set(range(53)) - set(np.asarray(draws(0, epoch).order).ravel().tolist()) for epoch in range(4)]
    assert len({frozenset(rest) for rest in left_out}) > 1  # not the same images every time


def test_seed_and_epoch_choose_the_draws_and_nothing_else_does() -> None:
    for name in ("order", "offsets", "mirrored"):
        same, again = (np.asarray(getattr(draws(3, 2), name)) for _ in range(2))
        np.testing.assert_array_equal(same, again)
        for other in (draws(4, 2), draws(3, 1)):
            assert (np.asarray(getattr(other, name)) != same).any()


def test_seeds_side_by_side_draw_what_they_draw_alone() -> None:
    together = draws_of_epoch(jnp.arange(3, dtype=jnp.uint32), jnp.int32(1), images=53, batch_size=10)
    for seed in range(3):
        alone = draws(seed, 1)
        for name in ("order", "offsets", "mirrored"):
            np.testing.assert_array_equal(np.asarray(getattr(together, name))[seed], np.asarray(getattr(alone, name)))
        np.testing.assert_array_equal(
            jax.random.key_data(together.dropout_keys)[seed], jax.random.key_data(alone.dropout_keys)
        )


def test_distributions() -> None:
    drawn = draws_of_epoch(jnp.uint32(0), jnp.int32(0), images=20_000, batch_size=100)
    offsets = np.asarray(drawn.offsets)
    # uniform on ±1: mean 0 and variance 1/3, within five standard errors of 40,000 draws
    assert abs(offsets.mean()) < 5 * (1 / 3 / 40_000) ** 0.5
    assert abs((offsets**2).mean() - 1 / 3) < 5 * (4 / 45 / 40_000) ** 0.5
    assert -1 <= offsets.min() <= offsets.max() <= 1
    assert abs(np.asarray(drawn.mirrored).mean() - 0.5) < 5 * (0.25 / 20_000) ** 0.5


def test_streams_differ() -> None:
    keys = {tuple(np.asarray(jax.random.key_data(stream_key(jnp.uint32(5), stream))).tolist()) for stream in Stream}
    assert len(keys) == 4  # an enum with two equal values would have three members
