"""The randomness of an epoch that no network has a say in: order of images, augmentation, dropout keys."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32


class Stream(enum.IntEnum):
    """What a key is for. The numbers are part of every result: never renumber."""

    INIT = 0
    ORDER = 1
    AUGMENT = 2
    DROPOUT = 3


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class EpochDraws:
    """What each step of an epoch sees and does to it; `offsets` are uniform in ±1, to be scaled by `shift`."""

    order: Int[Array, "*s steps batch"]
    offsets: Float[Array, "*s steps batch 2"]
    mirrored: Bool[Array, "*s steps batch"]
    dropout_keys: Key[Array, "*s steps"]


def init_generator(seed: int) -> np.random.Generator:
    """Where the initial values of a network come from; on the host, where drawing them compiles nothing."""
    return np.random.default_rng([seed, int(Stream.INIT)])


def stream_key(seed: UInt32[Array, ""], stream: Stream) -> Key[Array, ""]:
    """The key of one stream of a seed. Threefry by name, whatever jax's default is."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), int(stream))


# A program of its own, compiled once a process and not once a candidate: neither resolution nor network enters,
# so all candidates see the very same numbers. Sorting and Threefry are slow to compile.
@partial(jax.jit, static_argnames=("images", "batch_size"))
def draws_of_epoch(seeds: UInt32[Array, "*s"], epoch: Int[Array, ""], *, images: int, batch_size: int) -> EpochDraws:
    """The draws of an epoch, one set a seed: the order is a permutation of `images`, less what fills no batch."""
    steps = images // batch_size

    def draw(seed: UInt32[Array, ""]) -> EpochDraws:
        order, augment, dropout = (
            jax.random.fold_in(stream_key(seed, stream), epoch)
            for stream in (Stream.ORDER, Stream.AUGMENT, Stream.DROPOUT)
        )
        shift_key, flip_key = jax.random.split(augment)
        permutation = jax.random.permutation(order, images)[: steps * batch_size]
        return EpochDraws(
            order=permutation.reshape(steps, batch_size),
            offsets=jax.random.uniform(shift_key, (steps, batch_size, 2), jnp.float32, -1, 1),
            mirrored=jax.random.bernoulli(flip_key, 0.5, (steps, batch_size)),
            dropout_keys=jax.random.split(dropout, steps),
        )

    return jax.vmap(draw)(seeds) if seeds.ndim else draw(seeds)
