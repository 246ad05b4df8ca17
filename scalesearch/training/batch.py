"""The batch of a step: images chosen, augmented, standardised and mixed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scalesearch.data.feed import EpochData, standardise
from scalesearch.study.training import TrainingSection
from scalesearch.training.augment import augment
from scalesearch.training.mix import Batch, Labels, mix


def batch_of(data: EpochData, drawn: Any, training: TrainingSection) -> tuple[Float[Array, "n h w c"], Labels]:
    """The images and labels of a step.

    Args:
        data: the training images.
        drawn: `EpochDraws` of one step.
        training: which augmentation acts.
    """

    def single(drawn: Any) -> Batch:
        images = augment(
            data.images[drawn.order],
            drawn.offsets,
            drawn.mirrored,
            drawn.transforms,
            shift=training.shift,
            flip=training.flip,
        )
        return standardise(images, data.mean, data.std), data.labels[drawn.order]

    blend, box = drawn.transforms.blend, drawn.transforms.box
    if blend is None and box is None:
        return single(drawn)
    # The partner is the next image of the batch, whose order is random. It is made again: that takes less time than to
    # read the first one twice (`augment`), and no image moves between devices.
    partners = single(jax.tree.map(lambda each: jnp.roll(each, -1, axis=0), drawn))
    return mix(single(drawn), partners, blend, box)
