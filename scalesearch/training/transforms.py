"""Augmentation beyond shift and flip, drawn on the host: a warp, changes of colour and a mixture for each image.

Lengths are fractions of the image, so that the picture is the same at every resolution. Arrays have a shape `*b`, one
entry an image. A warp is a matrix that maps a place of the new picture to one of the old picture. Places are
(row, column, 1), measured from the centre in heights and widths of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Float

MAX_ASPECT = 4 / 3
"""The largest ratio of width to height of a crop, and of height to width (torchvision's `RandomResizedCrop`)."""

OPS = (
    *("identity", "autocontrast", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("brightness", "contrast", "color", "solarize", "posterize"),
)
"""The operations of RandAugment; `color` is saturation."""

MAX_MAGNITUDE = 10
"""The magnitude of AutoAugment's largest changes (arXiv:1805.09501, Table 6)."""

MAX_ANGLE, MAX_SHEAR, MAX_TRANSLATION = np.deg2rad(30), 0.3, 0.45
MAX_ENHANCEMENT = 0.9


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True)
class Transforms:
    """What happens to each image. None: nothing of that kind, and no part of a compiled program.

    Args:
        warp: the first two rows of a matrix, shift and flip included.
        color: factors of brightness, contrast and saturation.
        tone: the grey level from which values are inverted (256: none), the step to which they are rounded down
            (1: none), and whether contrast is stretched to all grey levels (1 or 0).
        blend: mixup's weight of the next image of the batch.
        box: top, left, bottom and right of CutMix's box, in fractions of the image from its upper left corner.
    """

    warp: Float[np.ndarray, "*b 2 3"] | None = None
    color: Float[np.ndarray, "*b 3"] | None = None
    tone: Float[np.ndarray, "*b 3"] | None = None
    blend: Float[np.ndarray, "*b"] | None = None
    box: Float[np.ndarray, "*b 4"] | None = None


def move_matrices(offsets: Float[np.ndarray, "*b 2"], mirrored: Bool[np.ndarray, "*b"]) -> Float[np.ndarray, "*b 3 3"]:
    """Warps that move by `offsets` (rows, columns), then mirror.

    >>> move_matrices(np.array([0.5, 0.25]), np.array(True)) @ [0, 0.1, 1]
    array([0.5 , 0.15, 1.  ])
    """
    matrices = _identities(mirrored.shape)
    matrices[..., :2, 2] = offsets
    matrices[..., 1, 1] = np.where(mirrored, -1, 1)
    return matrices


def crop_matrices(rng: np.random.Generator, shape: tuple[int, ...], smallest: float) -> Float[np.ndarray, "*b 3 3"]:
    """Warps that enlarge a random rectangle to the whole image, as torchvision's `RandomResizedCrop` (arXiv:1409.4842).

    Its area is uniform in [`smallest`, 1] and its aspect log-uniform up to `MAX_ASPECT`; a side that would be longer
    than the image is as long as the image. Its place is uniform among those inside the image.
    """
    area = rng.uniform(smallest, 1, shape)
    aspect = np.exp(rng.uniform(-1, 1, shape) * np.log(MAX_ASPECT))
    places = rng.uniform(-0.5, 0.5, (*shape, 2))
    sides = np.minimum(np.sqrt(np.stack([area / aspect, area * aspect], axis=-1)), 1)
    matrices = _identities(shape)
    matrices[..., [0, 1], [0, 1]] = sides
    matrices[..., :2, 2] = places * (1 - sides)
    return matrices


def jitter_factors(rng: np.random.Generator, shape: tuple[int, ...], strength: float) -> Float[np.ndarray, "*b 3"]:
    """Factors of brightness, contrast and saturation, uniform in 1 ± `strength` (torchvision's `ColorJitter`)."""
    return rng.uniform(1 - strength, 1 + strength, (*shape, 3))


def rand_augment(rng: np.random.Generator, shape: tuple[int, ...], layers: int, magnitude: float) -> Transforms:
    """Random operations on each image, `layers` of them, each one of `OPS` with equal chance (arXiv:1909.13719).

    Two of the paper's 14 operations are left out: sharpness, which depends on the resolution, and equalize, which needs
    a histogram of each image. The others are carried out together, whatever their order was: brightness, contrast and
    saturation in one step, then solarize, posterize and autocontrast, then one warp of the geometric ones. What lies
    outside the image repeats its border, where the paper fills with grey. Factors of an operation that is drawn twice
    multiply; solarize, posterize and autocontrast act once.

    Args:
        rng: of the draws.
        shape: of the images.
        layers: operations on each image.
        magnitude: 0 changes nothing but by autocontrast. `MAX_MAGNITUDE` rotates by 30°, shears by 0.3, translates by
            0.45 of the image, multiplies brightness, contrast or saturation by 0.1 or 1.9, inverts all values, leaves
            16 grey levels. The signs are random.
    """
    level = magnitude / MAX_MAGNITUDE
    drawn = rng.integers(len(OPS), size=(layers, *shape))
    amounts = level * rng.choice([-1.0, 1.0], size=(layers, *shape))

    def amount(layer: int, op: str) -> Float[np.ndarray, "*b"]:
        return np.where(drawn[layer] == OPS.index(op), amounts[layer], 0)

    # The warps of an image one after the other; all but one of the amounts of a layer are 0.
    warp = _identities(shape)
    for layer in range(layers):
        step, angle = _identities(shape), amount(layer, "rotate") * MAX_ANGLE
        step[..., 0, 0] = step[..., 1, 1] = np.cos(angle)
        step[..., 0, 1] = amount(layer, "shear_y") * MAX_SHEAR - np.sin(angle)
        step[..., 1, 0] = amount(layer, "shear_x") * MAX_SHEAR + np.sin(angle)
        step[..., 0, 2] = amount(layer, "translate_y") * MAX_TRANSLATION
        step[..., 1, 2] = amount(layer, "translate_x") * MAX_TRANSLATION
        warp = warp @ step

    # Colour and tone.
    factors = [
        np.prod([1 + amount(layer, op) * MAX_ENHANCEMENT for layer in range(layers)], axis=0)
        for op in ("brightness", "contrast", "color")
    ]
    solarized, posterized, stretched = (
        (drawn == OPS.index(op)).any(0) for op in ("solarize", "posterize", "autocontrast")
    )
    tone = np.where(solarized, 256 * (1 - level), 256), np.where(posterized, 2 ** round(4 * level), 1), stretched
    return Transforms(warp=warp, color=np.stack(factors, axis=-1), tone=np.stack(tone, axis=-1))


def mixup_weights(rng: np.random.Generator, shape: tuple[int, ...], alpha: float) -> Float[np.ndarray, "*b"]:
    """The weight 1 − λ of another image, λ from Beta(α, α) (arXiv:1710.09412)."""
    return 1 - rng.beta(alpha, alpha, shape)


def cutmix_boxes(rng: np.random.Generator, shape: tuple[int, ...], alpha: float) -> Float[np.ndarray, "*b 4"]:
    """Boxes of area 1 − λ, λ from Beta(α, α), with a uniform centre, cut at the border (arXiv:1905.04899)."""
    half = np.sqrt(1 - rng.beta(alpha, alpha, shape))[..., None] / 2
    centre = rng.random((*shape, 2))
    boxes: np.ndarray = np.clip(np.concatenate([centre - half, centre + half], axis=-1), 0, 1)
    return boxes


def _identities(shape: tuple[int, ...]) -> Float[np.ndarray, "*b 3 3"]:
    return np.tile(np.eye(3), (*shape, 1, 1))
