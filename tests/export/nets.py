"""Tiny networks of every kind of block with weights like trained ones, and their logits."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from scalesearch.models.names import initial_arrays, state_of
from scalesearch.models.network import Network
from scalesearch.models.ops.native import NativeOperations
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import StageSpec, make_stage
from scalesearch.trained.card import ModelCard, NamedArrays

CLASSES = ("blue", "green", "red")


def _stage(block: str, kernel_size: int, stride: int, width: int, depth: int = 1, **fields: Any) -> StageSpec:
    return make_stage(block, kernel_size=kernel_size, stride=stride, width=width, depth=depth, **fields)


SPECS = {
    # 22 px: a stride halves an even map, 11, and an odd one, 6: TensorFlow pads both ways.
    "mobile": ArchitectureSpec(
        22,
        3,
        3,
        StemSpec(5, 3, 2),
        (
            _stage("mbconv", 3, 1, 6, se_ratio=0.25),
            _stage("mbconv", 5, 2, 7, 2, expand_ratio=2.3, se_ratio=0.5),
            _stage("separable", 3, 1, 6),
            _stage("separable", 3, 2, 9),
        ),
        11,
        norm_epsilon=1e-5,
        padding="same",
    ),
    "residual": ArchitectureSpec(
        22,
        1,
        3,
        StemSpec(4, 7, 2, pool_stride=2),
        (
            _stage("basic", 3, 1, 6, 2),
            _stage("bottleneck", 3, 2, 8, 2, expand_ratio=4),
            _stage("grouped_bottleneck", 3, 1, 12, expand_ratio=2, group_width=3, se_ratio=0.5),
        ),
        0,
        "relu",
    ),
    "hard": ArchitectureSpec(
        12,
        3,
        3,
        StemSpec(4, 3, 1, norm="none"),
        (
            _stage("preactivation", 3, 2, 6, 2),
            _stage("fused_mbconv", 3, 1, 6),
            _stage("fused_mbconv", 3, 2, 8, expand_ratio=4),
            _stage("bneck", 5, 1, 8, se_ratio=0.25, expand_ratio=3, activation="relu6"),
        ),
        0,
        "hard_swish",
        final_norm="batch",
        hidden_width=7,
    ),
    "convnext": ArchitectureSpec(
        18,
        3,
        3,
        StemSpec(4, 4, 4, norm="layer"),
        (_stage("convnext", 3, 1, 4, expand_ratio=4), _stage("convnext", 7, 2, 6, 2, expand_ratio=2)),
        0,
        "gelu",
        final_norm="layer",
    ),
}


@functools.cache
def trained(name: str) -> tuple[ModelCard, NamedArrays]:
    """A network of `SPECS` with batch statistics, biases and factors that matter."""
    spec = SPECS[name]
    channels = spec.in_channels
    preprocessing = {"resolution": spec.resolution, "mean": [120.0, 110.0, 90.0][:channels], "std": [60.0] * channels}
    document = {"name": name, "spec": spec.to_json(), "preprocessing": preprocessing, "classes": CLASSES}
    card = ModelCard.model_validate(document)
    return card, shaken(initial_arrays(spec, 1))


def shaken(arrays: NamedArrays) -> NamedArrays:
    """`arrays`, where all that begin as zeros, ones or nearly so have random values."""
    rng = np.random.default_rng(2)

    def value(name: str, array: np.ndarray) -> np.ndarray:
        part = name.rsplit(".", 1)[-1]
        if part == "kernel":
            return array
        low, high = (0.5, 1.5) if part in ("scale", "var", "layer_scale") else (-0.5, 0.5)
        return rng.uniform(low, high, array.shape).astype(np.float32)

    return {name: value(name, array) for name, array in arrays.items()}


def grey_levels(card: ModelCard, count: int = 3) -> np.ndarray:
    size = card.spec.resolution
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (count, size, size, card.spec.in_channels), dtype=np.uint8)


def standardised(card: ModelCard, images: np.ndarray) -> np.ndarray:
    assert card.preprocessing is not None
    mean, std = card.preprocessing.mean, card.preprocessing.std
    return ((images - np.asarray(mean)) / np.asarray(std)).astype(np.float32)


@functools.cache
def expected(name: str) -> np.ndarray:
    """Our logits of `grey_levels`."""
    card, arrays = trained(name)
    return logits(card.spec, arrays, standardised(card, grey_levels(card)))


def logits(spec: ArchitectureSpec, arrays: NamedArrays, images: np.ndarray) -> np.ndarray:
    """Our logits of standardised images."""
    network = Network(spec, operations=NativeOperations(), dropout=0.0, rng=np.random.default_rng(0))
    graphdef, state = nnx.split(network)
    state = state_of(arrays, state, "test")
    return np.asarray(jax.jit(lambda x: nnx.merge(graphdef, state)(x, train=False))(images))
