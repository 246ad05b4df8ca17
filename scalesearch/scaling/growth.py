"""What grows with φ besides the network: the memory to train it, and the regularisation that larger networks need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scalesearch.scaling.cost.count import Complexity

# Copies of the parameters in a step: weights, gradients, two moments, a moving average, and one on the way.
_COPIES = 6
# Copies of the outputs of the convolutions: as they come, normalised and activated, and as much again for gradients and
# what a convolution works with.
_MAPS = 3
_BYTES = 4

# EfficientNet's dropout is 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5 for B0 to B7: 2.5 times as much after seven steps.
_RISE = (0.5 / 0.2 - 1) / 7
_MOST: Mapping[str, float] = {"dropout": 0.5, "stochastic_depth": 0.5, "rand_augment_magnitude": 10.0}
"""What grows with φ, each with its largest value."""


def training_memory(complexity: Complexity, batch_size: int) -> int:
    """An estimate of the bytes that a step of training takes: 4 · (6 · params + 3 · `batch_size` · activations).

    Compiled for a CPU, EfficientNet-like networks take up to a quarter less, ConvNeXt-T as much, and ResNets, whose
    kernels work with copies of their maps, up to two thirds more (docs/decisions/0028-family-at-real-cost.md). The
    images of the data set are not in it. bfloat16 takes as much on a CPU.

    >>> round(training_memory(Complexity(macs=385_814_752, params=5_288_548, activations=6_699_040), 32) / 1e9, 1)
    2.7
    """
    return _BYTES * (_COPIES * complexity.params + _MAPS * batch_size * complexity.activations)


def grown(training: Mapping[str, Any], phi: float, budget: float = 2.0, enlarged: float = 1.0) -> dict[str, Any]:
    """The values of a training section for the member φ of a family whose baseline trains with `training`.

    Dropout, stochastic depth and RandAugment's magnitude are multiplied by 1 + 3 ÷ 14 for each doubling of cost, up to
    0.5, 0.5 and 10: what the baseline does without, no member has. `evaluation_resolution`, if there is one, is
    `enlarged` as the network's own resolution is.

    Args:
        training: values by key, as in the `[train]` section and in a rule's `training`.
        phi: φ; below 0 the values shrink, at most to 0.
        budget: what a step of φ multiplies the cost by.
        enlarged: the member's resolution ÷ the baseline's.

    Source: for dropout the table in tensorflow/tpu efficientnet_builder.py and arXiv:1905.11946 §5.2. RandAugment's
    magnitude rises as fast in EfficientNetV2 (arXiv:2104.00298 Table 6: 15, 20, 25 for S, M and L, of 9, 24 and 53 G
    macs). Stochastic depth is 0.2 in every EfficientNet, but rises from 0.1 to 0.5 for ConvNeXt-T to B
    (arXiv:2201.03545 Table 5); here it rises as dropout does.

    >>> [round(grown({"dropout": 0.2}, phi)["dropout"], 2) for phi in (0, 1, 3, 7, 9)]
    [0.2, 0.24, 0.33, 0.5, 0.5]
    """
    values = dict(training)
    if phi == 0:
        return values
    factor = max(0.0, 1 + _RISE * phi * math.log2(budget))
    for key, most in _MOST.items():
        # A magnitude belongs to operations that there are.
        if key in values and (key != "rand_augment_magnitude" or values.get("rand_augment")):
            values[key] = round(min(values[key] * factor, max(values[key], most)), 6)
    if values.get("evaluation_resolution"):
        values["evaluation_resolution"] = max(1, round(values["evaluation_resolution"] * enlarged))
    return values


def recipe(training: Mapping[str, Any], resolution: int) -> dict[str, Any]:
    """Of a member's `training` values those that follow φ, and the resolutions that it is trained and judged at."""
    return {
        **{key: training[key] for key in _MOST if key in training},
        "resolution": resolution,
        "evaluation_resolution": training.get("evaluation_resolution") or resolution,
    }
