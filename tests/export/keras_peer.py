"""Writes networks of keras.applications with random weights, and their logits, into the folder that is named.

With the numpy backend of Keras: it compiles nothing, so that a network is built in a second.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "numpy"

import keras
import numpy as np

# TensorFlow's padding differs between even and odd sizes.
SIZES = {"efficientnet": (64,), "mobilenet": (65, 64)}


def main(folder: Path) -> None:
    builders = {"efficientnet": keras.applications.EfficientNetB0, "mobilenet": keras.applications.MobileNetV2}
    for name, sizes in SIZES.items():
        weights = None
        for size in sizes:
            shape = (size, size, 3)
            model = builders[name](weights=None, input_shape=shape, classes=7, classifier_activation=None)
            if weights is None:
                _shake(model)
                weights = model.get_weights()
                model.save_weights(folder / f"{name}.weights.h5")
                if name == "mobilenet":
                    model.save(folder / f"{name}.h5")
            model.set_weights(weights)
            for layer in model.layers:
                if isinstance(layer, keras.layers.Normalization):
                    layer.finalize_state()
            model.save(folder / f"{name}_{size}.keras")
            images = np.random.default_rng(size).integers(0, 256, (1, *shape)).astype(np.float32)
            inputs = images if name == "efficientnet" else images / 127.5 - 1
            np.savez(folder / f"{name}_{size}.npz", images=images, logits=np.asarray(model(inputs)))


def _shake(model: Any) -> None:
    rng = np.random.default_rng(0)
    ranges = {"gamma": (0.5, 1.5), "moving_variance": (0.5, 1.5), "variance": (0.04, 0.09), "mean": (0.3, 0.5)}
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in (*ranges, "beta", "moving_mean", "bias"):
                weight.assign(rng.uniform(*ranges.get(weight.name, (-0.5, 0.5)), weight.shape))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
