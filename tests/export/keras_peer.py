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

# An odd size and an even one: TensorFlow's padding differs between them.
SIZES = (65, 64)


def main(folder: Path) -> None:
    applications = keras.applications
    for name, build in (("efficientnet", applications.EfficientNetB0), ("mobilenet", applications.MobileNetV2)):
        weights = None
        for size in SIZES:
            model = build(weights=None, input_shape=(size, size, 3), classes=7, classifier_activation=None)
            if weights is None:
                _shake(model)
                weights = model.get_weights()
                model.save_weights(folder / f"{name}.weights.h5")
                model.save(folder / f"{name}.h5")
            model.set_weights(weights)
            for layer in model.layers:
                if isinstance(layer, keras.layers.Normalization):
                    layer.finalize_state()
            model.save(folder / f"{name}_{size}.keras")
            images = np.random.default_rng(size).integers(0, 256, (2, size, size, 3)).astype(np.float32)
            inputs = images if name == "efficientnet" else images / 127.5 - 1
            np.savez(folder / f"{name}_{size}.npz", images=images, logits=np.asarray(model(inputs)))
    keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3)).save_weights(folder / "resnet.weights.h5")
    headless = applications.EfficientNetB0(weights=None, input_shape=(64, 64, 3), include_top=False)
    headless.save_weights(folder / "headless.weights.h5")


def _shake(model: Any) -> None:
    rng = np.random.default_rng(0)
    ranges = {"gamma": (0.5, 1.5), "moving_variance": (0.5, 1.5), "variance": (0.04, 0.09), "mean": (0.3, 0.5)}
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in (*ranges, "beta", "moving_mean", "bias"):
                weight.assign(rng.uniform(*ranges.get(weight.name, (-0.5, 0.5)), weight.shape))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
