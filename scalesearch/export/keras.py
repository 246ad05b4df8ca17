"""keras: a .keras file, and back from the files of keras.applications.

The model takes grey levels from 0 to 255, (n, resolution, resolution, channels), and standardises them by its first two
layers, as those of keras.applications do. One without preprocessing (a definition without weights) takes images that
have been standardised. It returns logits.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scalesearch.errors import InputError
from scalesearch.export.graph import ActivationOrNone, Builder, Convolution, Gate, build
from scalesearch.export.keras_names import Names, dense_name, namer, norm_name, pad_name, table
from scalesearch.export.keras_read import read
from scalesearch.export.mapping import to_library
from scalesearch.models.ops.base import LAYER_EPSILON
from scalesearch.trained.card import ModelCard, NamedArrays, Preprocessing

__all__ = ["export", "read"]

_ACTIVATIONS = {"swish": "silu", "relu": "relu", "relu6": "relu6", "hard_swish": "hard_silu", "gelu": "gelu"}


def export(card: ModelCard, arrays: NamedArrays | None, target: Path) -> None:
    """Writes the model; without `arrays`, with the weights of an untrained network."""
    _check(card)
    if arrays is None:
        from scalesearch.models.names import initial_arrays

        arrays = initial_arrays(card.spec, 0)
        warnings.warn("there are no weights: the Keras model has those of an untrained network", stacklevel=2)
    model = _model(card, arrays)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        file = Path(folder) / "model.keras"  # Keras goes by the ending
        model.save(file)
        shutil.move(file, target)


def _check(card: ModelCard) -> None:
    """Raises `InputError` for what Keras' own layers do not compute."""
    spec = card.spec
    if any(stage.block == "convnext" for stage in spec.stages):
        raise InputError("--to keras: Keras has no layer for the layer scale of `convnext` blocks")
    if spec.stem.pool_stride > 1 and (spec.stem.norm != "batch" or spec.activation not in ("relu", "relu6")):
        raise InputError(
            "--to keras: the pool of the stem must follow relu or relu6, as Keras pads with zeros, but follows "
            f"{spec.activation}"
        )


def _model(card: ModelCard, arrays: NamedArrays) -> Any:
    keras, spec = _keras(), card.spec
    inputs = keras.Input((spec.resolution, spec.resolution, spec.in_channels))
    x = inputs if card.preprocessing is None else _standardised(keras, inputs, card.preprocessing)
    logits = build(spec, _Layers(keras, namer(spec), spec.norm_epsilon), x)
    name = "".join(each if each.isascii() and each.isalnum() else "_" for each in card.name)
    model = keras.Model(inputs, logits, name=name or "network")
    for theirs, array in to_library(arrays, table(spec), "keras").items():
        layer, variable = theirs.split("/")
        next(each for each in model.get_layer(layer).weights if each.name == variable).assign(array)
    return model


def _keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "jax")  # Keras' default is a library that we do not need
    import keras

    return keras


def _standardised(keras: Any, images: Any, preprocessing: Preprocessing) -> Any:
    mean, std = (np.asarray(each, np.float64) / 255 for each in (preprocessing.mean, preprocessing.std))
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(images)
    return keras.layers.Normalization(mean=mean.tolist(), variance=(std**2).tolist(), name="normalization")(x)


class _Layers(Builder[Any]):
    """Makes Keras' layers, whose weights are zeros until they are set: that is fast."""

    def __init__(self, keras: Any, names: Callable[[str], Names], epsilon: float) -> None:
        self.keras, self.make, self.names, self.epsilon = keras, keras.layers, names, epsilon

    def convolve(self, x: Any, layer: Convolution) -> Any:
        name, k = self.names(layer.name).convolution, layer.kernel_size
        padding = "valid"
        if layer.stride == 1 and k % 2:
            padding = "same"
        elif any(layer.pads):
            x = self.make.ZeroPadding2D((layer.pads, layer.pads), name=pad_name(name))(x)
        common = {"strides": layer.stride, "padding": padding, "use_bias": layer.biased, "name": name}
        if layer.group_width == 1 and layer.width_in > 1:
            return self.make.DepthwiseConv2D(k, depthwise_initializer="zeros", **common)(x)
        return self.make.Conv2D(layer.width, k, groups=layer.groups, kernel_initializer="zeros", **common)(x)

    def normalise(self, x: Any, name: str) -> Any:
        return self.make.BatchNormalization(epsilon=self.epsilon, name=norm_name(self.names, name))(x)

    def layer_normalise(self, x: Any, name: str, *, maps: bool) -> Any:
        return self.make.LayerNormalization(epsilon=LAYER_EPSILON, name=name.replace(".", "_"))(x)

    def activate(self, x: Any, activation: ActivationOrNone, name: str) -> Any:
        if activation == "none":
            return x
        layer, _, part = name.rpartition(".")
        alone = part != "norm" or layer.count(".") == 2
        return self.make.Activation(
            _ACTIVATIONS[activation],
            name=f"{name.replace('.', '_')}_activation" if alone else self.names(layer).activation,
        )(x)

    def excite(self, x: Any, name: str, widths: tuple[int, int], activation: ActivationOrNone, gate: Gate) -> Any:
        width, squeezed = widths
        prefix = self.names(name).convolution
        y = self.make.GlobalAveragePooling2D(name=f"{prefix}_squeeze")(x)
        y = self.make.Reshape((1, 1, width), name=f"{prefix}_reshape")(y)
        for part, outputs, function in (("reduce", squeezed, _ACTIVATIONS[activation]), ("expand", width, gate)):
            layer = self.make.Conv2D(
                outputs, 1, activation=function, kernel_initializer="zeros", name=f"{prefix}_{part}"
            )
            y = layer(y)
        return self.make.Multiply(name=f"{prefix}_excite")([x, y])

    def rescale(self, x: Any, name: str) -> Any:
        raise InputError(f"--to keras: Keras has no layer for {name}")

    def add(self, x: Any, y: Any, name: str) -> Any:
        return self.make.Add(name=self.names(f"{name}.add").convolution)([x, y])

    def pool(self, x: Any, stride: int) -> Any:
        padded = self.make.ZeroPadding2D(1, name="pool_pad")(x)  # all are above 0, see `_check`
        return self.make.MaxPooling2D(3, stride, name="pool")(padded)

    def average(self, x: Any) -> Any:
        return self.make.GlobalAveragePooling2D(name="avg_pool")(x)

    def dense(self, x: Any, name: str, widths: tuple[int, int]) -> Any:
        return self.make.Dense(widths[1], kernel_initializer="zeros", name=dense_name(name))(x)
