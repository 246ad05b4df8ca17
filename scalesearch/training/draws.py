"""The random numbers of a training: initial values, order of images, augmentation, dropout. The same for all networks.

numpy draws them on the host, so that nothing is compiled; an epoch's draws are a few bytes per image.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from scalesearch.study.training import TrainingSection
from scalesearch.training.transforms import (
    Transforms,
    crop_matrices,
    cutmix_boxes,
    jitter_factors,
    mixup_weights,
    move_matrices,
    rand_augment,
)


class Stream(enum.IntEnum):
    """The streams of random numbers. Their values are part of every result: never renumber."""

    INIT = 0
    ORDER = 1
    AUGMENT = 2
    DROPOUT = 3
    CROP = 4
    COLOR = 5
    RAND_AUGMENT = 6
    MIXUP = 7
    CUTMIX = 8


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class EpochDraws:
    """The images of each step of an epoch and how they are augmented.

    `offsets` are uniform in ±1, to be scaled by `shift`; `dropout` is the data of a Threefry key for each step;
    `transforms` hold what else the study asks for.
    """

    order: Int[np.ndarray, "*s steps batch"]
    offsets: Float[np.ndarray, "*s steps batch 2"]
    mirrored: Bool[np.ndarray, "*s steps batch"]
    dropout: UInt32[np.ndarray, "*s steps 2"]
    transforms: Transforms = field(default_factory=Transforms)


def init_generator(seed: int) -> np.random.Generator:
    """The generator of the initial values of a network."""
    return _generator(seed, Stream.INIT)


def draws_of_epoch(
    seeds: UInt32[np.ndarray, "*s"], epoch: int, training: TrainingSection, *, images: int
) -> EpochDraws:
    """The draws of an epoch for each seed. They depend on neither resolution nor network: all candidates see the same.

    Args:
        seeds: one seed, or a vector, which gives every array that leading axis.
        epoch: counted from 0.
        training: the size of a batch, and the augmentation.
        images: training images; the order is a permutation of them, without those that do not fill a batch.

    >>> training = TrainingSection(epochs=2, batch_size=3, learning_rate=0.1)
    >>> draws_of_epoch(np.uint32(0), 0, training, images=7).order.shape
    (2, 3)
    """
    shape = (images // training.batch_size, training.batch_size)

    def draw(seed: int) -> EpochDraws:
        order, augment, dropout = (
            _generator(seed, stream, epoch) for stream in (Stream.ORDER, Stream.AUGMENT, Stream.DROPOUT)
        )
        offsets = augment.uniform(-1, 1, (*shape, 2)).astype(np.float32)
        mirrored = augment.random(shape) < 0.5
        return EpochDraws(
            order=order.permutation(images)[: shape[0] * shape[1]].astype(np.int32).reshape(shape),
            offsets=offsets,
            mirrored=mirrored,
            dropout=dropout.integers(0, 2**32, (shape[0], 2), np.uint32),
            transforms=_draw_transforms(training, seed, epoch, offsets, mirrored),
        )

    drawn = [draw(seed) for seed in np.atleast_1d(seeds).tolist()]
    return jax.tree.map(lambda *each: np.stack(each), *drawn) if np.ndim(seeds) else drawn[0]


def _draw_transforms(
    training: TrainingSection,
    seed: int,
    epoch: int,
    offsets: Float[np.ndarray, "steps batch 2"],
    mirrored: Bool[np.ndarray, "steps batch"],
) -> Transforms:
    """What the study asks for beyond shift and flip, each from a stream of its own."""
    shape = mirrored.shape
    crop, color, operations, mixup, cutmix = (
        _generator(seed, stream, epoch)
        for stream in (Stream.CROP, Stream.COLOR, Stream.RAND_AUGMENT, Stream.MIXUP, Stream.CUTMIX)
    )

    # RandAugment, after a crop and the usual movements, with its factors times those of the jitter.
    drawn = Transforms()
    if training.rand_augment:
        drawn = rand_augment(operations, shape, training.rand_augment, training.rand_augment_magnitude)
    warp, factors = drawn.warp, drawn.color
    if training.crop < 1 or warp is not None:
        moves = move_matrices(offsets * training.shift, mirrored & training.flip)
        warp = moves if warp is None else moves @ warp
        if training.crop < 1:
            warp = crop_matrices(crop, shape, training.crop) @ warp
        warp = warp[..., :2, :]
    if training.color_jitter:
        jitter = jitter_factors(color, shape, training.color_jitter)
        factors = jitter if factors is None else jitter * factors

    # Mixtures: where a study asks for both, each image takes one of the two.
    blend = mixup_weights(mixup, shape, training.mixup) if training.mixup else None
    box = cutmix_boxes(cutmix, shape, training.cutmix) if training.cutmix else None
    if blend is not None and box is not None:
        boxed = cutmix.random(shape) < 0.5
        blend, box = np.where(boxed, 0, blend), np.where(boxed[..., None], box, 0)
    transforms: Transforms = jax.tree.map(
        lambda each: each.astype(np.float32), Transforms(warp, factors, drawn.tone, blend, box)
    )
    return transforms


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)
