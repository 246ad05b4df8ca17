"""The random numbers of a training: initial values, order of images, augmentation, dropout. The same for all networks.

numpy draws them on the host, so that nothing is compiled; an epoch's draws are a few bytes per image.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt32


class Stream(enum.IntEnum):
    """The streams of random numbers. Their values are part of every result: never renumber."""

    INIT = 0
    ORDER = 1
    AUGMENT = 2
    DROPOUT = 3


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class EpochDraws:
    """The images of each step of an epoch and how they are augmented.

    `offsets` are uniform in ±1, to be scaled by `shift`; `dropout` is the data of a Threefry key for each step.
    """

    order: Int[np.ndarray, "*s steps batch"]
    offsets: Float[np.ndarray, "*s steps batch 2"]
    mirrored: Bool[np.ndarray, "*s steps batch"]
    dropout: UInt32[np.ndarray, "*s steps 2"]


def init_generator(seed: int) -> np.random.Generator:
    """The generator of the initial values of a network."""
    return _generator(seed, Stream.INIT)


def draws_of_epoch(seeds: UInt32[np.ndarray, "*s"], epoch: int, *, images: int, batch_size: int) -> EpochDraws:
    """The draws of an epoch for each seed. They depend on neither resolution nor network: all candidates see the same.

    Args:
        seeds: one seed, or a vector, which gives every array that leading axis.
        epoch: counted from 0.
        images: training images; the order is a permutation of them, without those that do not fill a batch.
        batch_size: images of a step.

    >>> draws_of_epoch(np.uint32(0), 0, images=7, batch_size=3).order.shape
    (2, 3)
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
