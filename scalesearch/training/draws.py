"""The randomness of a training that no network has a say in: order of images, augmentation, dropout; and its start.

Drawn by numpy on the host, which compiles nothing; an epoch's draws are a few bytes an image.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt32


class Stream(enum.IntEnum):
    """What numbers are for. These are part of every result: never renumber."""

    INIT = 0
    ORDER = 1
    AUGMENT = 2
    DROPOUT = 3


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class EpochDraws:
    """What each step of an epoch sees and does to it; `offsets` are uniform in ±1, to be scaled by `shift`.

    `dropout` is the data of a Threefry key for each step.
    """

    order: Int[np.ndarray, "*s steps batch"]
    offsets: Float[np.ndarray, "*s steps batch 2"]
    mirrored: Bool[np.ndarray, "*s steps batch"]
    dropout: UInt32[np.ndarray, "*s steps 2"]


def init_generator(seed: int) -> np.random.Generator:
    """Where the initial values of a network come from."""
    return _generator(seed, Stream.INIT)


def draws_of_epoch(seeds: UInt32[np.ndarray, "*s"], epoch: int, *, images: int, batch_size: int) -> EpochDraws:
    """The draws of an epoch, one set a seed: the order is a permutation of `images`, less what fills no batch.

    Neither resolution nor network enters, so all candidates see the very same numbers.
    """
    shape = (images // batch_size, batch_size)

    def draw(seed: int) -> EpochDraws:
        order, augment, dropout = (
            _generator(seed, stream, epoch) for stream in (Stream.ORDER, Stream.AUGMENT, Stream.DROPOUT)
        )
        return EpochDraws(
            order=order.permutation(images)[: shape[0] * shape[1]].astype(np.int32).reshape(shape),
            offsets=augment.uniform(-1, 1, (*shape, 2)).astype(np.float32),
            mirrored=augment.random(shape) < 0.5,
            dropout=dropout.integers(0, 2**32, (shape[0], 2), np.uint32),
        )

    drawn = [draw(seed) for seed in np.atleast_1d(seeds).tolist()]
    return jax.tree.map(lambda *each: np.stack(each), *drawn) if np.ndim(seeds) else drawn[0]


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)
