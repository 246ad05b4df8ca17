"""What a transfer begins with: the weights of one network, made to fit other classes and other channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.trained.card import ModelCard, NamedArrays

_GREY = np.array([0.299, 0.587, 0.114])
"""What red, green and blue are weighed by in a grey level (ITU-R 601), as Pillow does."""

_CLASSIFIER = ("classifier.kernel", "classifier.bias")


class Standard(NamedTuple):
    """What images are standardised by: mean and deviation of each channel, in grey levels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def transferred_spec(card: ModelCard, channels: int, classes: int, resolution: int | None) -> ArchitectureSpec:
    """The card's network for images of other channels, classes and resolution (None: its own).

    Raises `InputError` if its parts are not known, or channels are neither grey nor colour.
    """
    spec = card.spec
    if spec.module:
        raise InputError(f"{card.name}: a network that {spec.module} builds has no classifier that could be replaced")
    if spec.in_channels != channels and {spec.in_channels, channels} != {1, 3}:
        raise InputError(
            f"{card.name}: takes images of {spec.in_channels} channels, which cannot become {channels}: only grey (1) "
            "and colour (3) become each other"
        )
    return dataclasses.replace(
        spec, in_channels=channels, num_classes=classes, resolution=resolution or spec.resolution
    )


def transferred_standard(card: ModelCard, channels: int) -> Standard | None:
    """What images are standardised by: what the network is used to. None if its card does not say."""
    if card.preprocessing is None:
        return None
    mean, std = card.preprocessing.mean, card.preprocessing.std
    if len(mean) == channels:
        return Standard(mean, std)
    return Standard(*(channels * (float(np.mean(values)),) for values in (mean, std)))


def keeps_classifier(card: ModelCard, classes: tuple[str, ...]) -> bool:
    """Whether the network has these classes already, in any order."""
    return bool(classes) and sorted(classes) == sorted(card.classes)


def transferred_weights(
    card: ModelCard, arrays: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray], classes: tuple[str, ...]
) -> NamedArrays:
    """The weights and statistics that a training begins with.

    Args:
        card: the network that they come from.
        arrays: its arrays.
        fresh: the initial arrays of the new network: its classifier, if the classes are others.
        classes: names of the new classes, in the order of the logits.
    """
    begun = dict(arrays)
    if keeps_classifier(card, classes):
        order = [card.classes.index(name) for name in classes]
        begun |= {name: np.ascontiguousarray(arrays[name][..., order]) for name in _CLASSIFIER}
    else:
        begun |= {name: fresh[name] for name in _CLASSIFIER}
    channels, patches = fresh["stem.kernel"].shape[2], arrays["stem.kernel"]
    if patches.shape[2] == 1 and channels == 3:
        begun["stem.kernel"] = (patches * _GREY[:, None]).astype(np.float32)
    elif patches.shape[2] == 3 and channels == 1:
        begun |= _grey_stem(card, arrays)
    return begun


def _grey_stem(card: ModelCard, arrays: Mapping[str, np.ndarray]) -> NamedArrays:
    """The stem of a colour network for grey images: it sees what it would see of three equal channels.

    With means m_c and deviations s_c of the channels, and m, s of the grey images, Σ_c K_c·(x − m_c)/s_c is
    (Σ_c K_c·s/s_c)·(x − m)/s and a constant, which goes to what is subtracted next. Where the means differ, the zeros
    that pad an image are no grey level of all three channels, so at its border that is not exact.
    """
    colour, grey = transferred_standard(card, 3), transferred_standard(card, 1)
    kernel = arrays["stem.kernel"].astype(np.float64)
    if colour is None or grey is None:
        return {"stem.kernel": kernel.sum(2, keepdims=True).astype(np.float32)}
    mean, std = np.array(colour.mean), np.array(colour.std)
    constant = np.einsum("hwcd,c->d", kernel, (grey.mean[0] - mean) / std)
    summed = np.einsum("hwcd,c->hwd", kernel, grey.std[0] / std)[:, :, None]
    stem = {"stem.kernel": summed.astype(np.float32)}
    for name, sign in (("stem.norm.mean", -1), ("stem.bias", 1)):
        if name in arrays:
            stem[name] = (arrays[name] + sign * constant).astype(np.float32)
    return stem
