"""Networks of odd sizes, and arrays without which no error of an exporter would show."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from scalesearch.baselines.efficientnet import published
from scalesearch.baselines.published import baseline
from scalesearch.export.torch_layers import RESIDUAL, layers_of
from scalesearch.scaling.architecture import Activation, ArchitectureSpec, StemSpec
from scalesearch.scaling.compound import scale
from scalesearch.scaling.stage import make_stage
from scalesearch.trained.card import ModelCard, NamedArrays, Preprocessing


def network(
    stem: StemSpec,
    rows: list[tuple[Any, ...]],
    head: int,
    activation: Activation = "swish",
    *,
    block: str = "mbconv",
    channels: int = 3,
    classes: int = 10,
    **fields: Any,
) -> ArchitectureSpec:
    """Rows are kernel, depth, width, expand ratio, stride, se ratio and, if it is another one, kind of block."""
    stages = tuple(
        make_stage(
            kind[0] if kind else block,
            kernel_size=kernel,
            depth=depth,
            width=width,
            expand_ratio=expand,
            stride=stride,
            se_ratio=se,
        )
        for kernel, depth, width, expand, stride, se, *kind in rows
    )
    return ArchitectureSpec(32, channels, classes, stem, stages, head, activation, **fields)


def efficientnets() -> dict[str, ArchitectureSpec]:
    """EfficientNet-B0 to B7."""
    b0 = baseline("efficientnet-b0")
    grown = {member.name.lower(): scale(b0.spec, member.coefficients, b0.rounding) for member in published()}
    return {"b0": b0.spec, **grown}


_ROWS: list[tuple[Any, ...]] = [
    (3, 2, 13, 1, 1, 0.25),
    (3, 2, 27, 6, 2, 0.25),
    (5, 2, 35, 5, 2, 0.3),
    (3, 3, 35, 2.3, 1, 0.3),
    (7, 1, 51, 4, 2, 0.25),
]
_PLAIN: list[tuple[Any, ...]] = [(3, 1, 11, 1, 1, 0), (3, 2, 21, 6, 2, 0), (3, 2, 30, 3, 2, 0)]

NETWORKS: dict[str, ArchitectureSpec] = {
    "odd efficientnet": network(StemSpec(30, 3, 2), _ROWS, 77),
    "odd efficientnet, same": network(StemSpec(30, 3, 2), _ROWS, 77, padding="same"),
    "patchless stem, no head, grey": network(StemSpec(9, 5, 1), _ROWS, 0, channels=1, norm_epsilon=1e-5),
    "fused": network(
        StemSpec(10, 3, 2),
        [(3, 2, 10, 1, 1, 0, "fused_mbconv"), (5, 2, 17, 4, 2, 0, "fused_mbconv"), (3, 2, 20, 6, 2, 0.25)],
        40,
    ),
    "six halvings": network(StemSpec(6, 3, 2), [(3, 1, 7 + s, 2, 2, 0.25) for s in range(5)], 20),
    "odd mobilenet-v2": network(StemSpec(14, 3, 2), _PLAIN, 60, "relu6"),
    "odd mobilenet-v1": network(
        StemSpec(9, 3, 2), [(3, 2, 15, 1, 1, 0), (3, 2, 22, 1, 2, 0)], 0, "relu", block="separable"
    ),
    "odd basic resnet": network(
        StemSpec(11, 3, 1),
        [(3, 2, 11, 1, 1, 0), (3, 1, 18, 1, 2, 0), (3, 2, 18, 1, 1, 0)],
        0,
        "relu",
        block="basic",
        channels=1,
    ),
    "odd bottleneck resnet": network(
        StemSpec(64, 7, 2, pool_stride=2),
        [(3, 2, 36, 3, 1, 0), (3, 1, 60, 3, 2, 0), (3, 3, 63, 3, 2, 0), (3, 1, 99, 3, 2, 0)],
        0,
        "relu",
        block="bottleneck",
    ),
    "quarter bottleneck resnet": network(
        StemSpec(20, 7, 2, pool_stride=2), [(3, 2, 36, 4, 1, 0), (3, 2, 60, 4, 2, 0)], 0, "relu", block="bottleneck"
    ),
    # Stem 36 and head 1440 are 9/8 of 32 and 1280: transformers' rounding can give them.
    "for transformers": network(
        StemSpec(36, 3, 2), [(3, 2, 18, 1, 1, 0.25), (5, 2, 27, 6, 2, 0.25), (3, 2, 45, 5, 2, 0.25)], 1440
    ),
    "for transformers, same": network(
        StemSpec(28, 3, 2), [(3, 2, 13, 1, 1, 0.25), (5, 2, 27, 6, 2, 0.25)], 1120, padding="same"
    ),
}
"""Small networks of which no width is a multiple of 8."""


def card_of(spec: ArchitectureSpec, **fields: Any) -> ModelCard:
    """A card as training leaves it."""
    means = tuple(100.0 + channel for channel in range(spec.in_channels))
    preprocessing = Preprocessing(resolution=spec.resolution, mean=means, std=(60.0,) * spec.in_channels)
    return ModelCard(name='a "name"', spec=spec, preprocessing=preprocessing, **fields)


_LAST = ("project", "second", "expand")


def random_arrays(spec: ArchitectureSpec, seed: int = 0) -> NamedArrays:
    """Arrays of a network with statistics, scales and biases that differ from channel to channel.

    What blocks add to their input is small, so that maps and logits stay so.
    """
    rng, arrays = np.random.default_rng(seed), {}
    for layer in layers_of(spec):
        for name, shape in layer.shapes.items():
            part = name.rpartition(".")[2]
            if part == "kernel":
                deviation = np.sqrt(2 / np.prod(shape[:-1]))
                value = rng.normal(0, deviation, shape)
            elif part in ("scale", "var"):
                value = rng.uniform(0.5, 1.5, shape)
                if part == "scale" and layer.role in _LAST and (layer.block.same_shape or layer.block.kind in RESIDUAL):
                    value *= 0.2
            else:
                value = rng.normal(0, 0.1, shape)
            arrays[name] = value.astype(np.float32)
    return arrays


def at(spec: ArchitectureSpec, resolution: int) -> ArchitectureSpec:
    """The network for images of another size."""
    return dataclasses.replace(spec, resolution=resolution)
