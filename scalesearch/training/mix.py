"""Mixtures of two images and of their labels: mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from scalesearch.models.ops.base import Operations


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class MixedLabels:
    """Two labels of each image, and the weight in [0, 1] of the second."""

    labels: Int[Array, " n"]
    partners: Int[Array, " n"]
    weight: Float[Array, " n"]


Labels = Int[Array, " n"] | MixedLabels


Batch = tuple[Float[Array, "n h w c"], Int[Array, " n"]]


def mix(
    batch: Batch, partners: Batch, blend: Float[Array, " n"] | None, box: Float[Array, "n 4"] | None
) -> tuple[Float[Array, "n h w c"], MixedLabels]:
    """Each image of a batch mixed with its partner.

    Args:
        batch: images and their classes.
        partners: another image and its class for each.
        blend: the weight of the partner everywhere; None for 0.
        box: top, left, bottom, right of what is cut out of the partner, in fractions of the image; None for no box. A
            pixel that the box covers in part is mixed in proportion, so that the weight of a label is the area of the
            box at every resolution.
    """
    (images, labels), (others, other_labels) = batch, partners
    mask, weight = jnp.zeros((len(labels), 1, 1, 1)), jnp.zeros(len(labels))
    if blend is not None:
        mask, weight = mask + blend[:, None, None, None], weight + blend
    if box is not None:
        top, left, bottom, right = box.T
        rows, columns = _covered(top, bottom, images.shape[1]), _covered(left, right, images.shape[2])
        mask = mask + (rows[:, :, None] * columns[:, None, :])[..., None]
        weight = weight + (bottom - top) * (right - left)
    return images + mask * (others - images), MixedLabels(labels, other_labels, weight)


def _covered(start: Float[Array, " n"], end: Float[Array, " n"], pixels: int) -> Float[Array, "n pixels"]:
    """The part of each pixel between `start` and `end`, which are fractions of the image."""
    edges = jnp.arange(pixels)
    inside = jnp.minimum(end[:, None] * pixels, edges + 1) - jnp.maximum(start[:, None] * pixels, edges)
    return jnp.clip(inside, 0, 1)


def label_loss(
    operations: Operations, logits: Float[Array, "n k"], labels: Labels, smoothing: float
) -> Float[Array, " n"]:
    """The loss of each image; of mixed labels (1 − w) · loss of the first + w · loss of the second."""
    if not isinstance(labels, MixedLabels):
        return operations.loss(logits, labels, smoothing)
    first, second = (operations.loss(logits, each, smoothing) for each in (labels.labels, labels.partners))
    return (1 - labels.weight) * first + labels.weight * second
