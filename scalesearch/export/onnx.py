"""onnx: one graph for any batch size, with batch normalisation folded into the convolutions before it.

The input `images` is float32 (n, channels, resolution, resolution), standardised: (grey level − mean) / std. Metadata
say how: `resolution`, `fit`, `mean` and `std` in grey levels from 0 to 255, `classes` in the order of the logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from scalesearch.errors import InputError
from scalesearch.export.graph import ActivationOrNone, Builder, Convolution, Gate, build
from scalesearch.models.ops.base import LAYER_EPSILON
from scalesearch.trained.card import ModelCard, NamedArrays

# What onnxruntime of two years ago reads; later versions have nothing that is needed here.
OPSET, IR_VERSION = 17, 8
LARGEST = 2**31 - 2**20
"""Bytes: protobuf allows 2 GiB a file."""


def export(card: ModelCard, arrays: NamedArrays | None, target: Path) -> None:
    """Writes the graph with its weights."""
    if arrays is None:
        raise InputError("--to onnx writes a graph with its weights, but there are none")
    if sum(array.nbytes for array in arrays.values()) > LARGEST:
        raise InputError("--to onnx: the weights must be less than 2 GiB, which is the most that the format holds")
    onnx.save(_model(card, arrays), target)


def _model(card: ModelCard, arrays: NamedArrays) -> Any:
    spec, graph = card.spec, _Graph(arrays, card.spec.norm_epsilon)
    logits = build(spec, graph, "images")
    graph.nodes[-1].output[0] = "logits"
    del logits  # its name has become that of the output
    size: list[str | int] = ["n", spec.in_channels, spec.resolution, spec.resolution]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, size)
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", spec.num_classes])
    body = helper.make_graph(graph.nodes, "network", [images], [output], graph.initialisers)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="scalesearch"
    )
    helper.set_model_props(model, metadata(card))
    onnx.checker.check_model(model)
    return model


def metadata(card: ModelCard) -> dict[str, str]:
    """The metadata of the graph: name, class names and preprocessing, each as text or JSON."""
    values: dict[str, Any] = {
        "name": card.name,
        "input": "images (n, channels, height, width), float32, (grey level - mean) / std",
        "output": "logits",
        "resolution": card.spec.resolution,
    }
    if card.classes:
        values["classes"] = list(card.classes)
    if card.preprocessing is not None:
        values |= card.preprocessing.model_dump(mode="json")
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in values.items()
    }


class _Graph(Builder[str]):
    """Collects nodes. Maps are (n, c, h, w) and called by the names of their tensors."""

    def __init__(self, arrays: Mapping[str, np.ndarray], epsilon: float) -> None:
        self.arrays, self.epsilon = arrays, epsilon
        self.nodes: list[Any] = []
        self.initialisers: list[Any] = []

    def convolve(self, x: str, layer: Convolution) -> str:
        bias = self.arrays[f"{layer.name}.bias"] if layer.biased else None
        return self._conv(x, layer, self.arrays[f"{layer.name}.kernel"], bias)

    def convolve_and_normalise(self, x: str, layer: Convolution) -> str:
        """In one convolution, computed in float64 before it is rounded."""
        gain, shift = self._affine(f"{layer.name}.norm")
        return self._conv(x, layer, self.arrays[f"{layer.name}.kernel"] * gain, shift)

    def normalise(self, x: str, name: str) -> str:
        gain, shift = self._affine(name)
        channels = (1, -1, 1, 1)
        scaled = self._node("Mul", name, x, self._constant(f"{name}.gain", gain.reshape(channels)))
        return self._node("Add", f"{name}.shifted", scaled, self._constant(f"{name}.shift", shift.reshape(channels)))

    def layer_normalise(self, x: str, name: str, *, maps: bool) -> str:
        scale, bias = (self._constant(f"{name}.{part}", self.arrays[f"{name}.{part}"]) for part in ("scale", "bias"))
        x = self._node("Transpose", f"{name}.last", x, perm=[0, 2, 3, 1]) if maps else x
        x = self._node("LayerNormalization", name, x, scale, bias, axis=-1, epsilon=LAYER_EPSILON)
        return self._node("Transpose", f"{name}.first", x, perm=[0, 3, 1, 2]) if maps else x

    def activate(self, x: str, activation: ActivationOrNone, name: str) -> str:
        name = f"{name}.{activation}"
        if activation == "swish":
            return self._node("Mul", name, x, self._node("Sigmoid", f"{name}.gate", x))
        if activation == "relu":
            return self._node("Relu", name, x)
        if activation == "relu6":
            return self._node("Clip", name, x, self._number("zero", 0), self._number("six", 6))
        if activation == "hard_swish":
            return self._node("HardSwish", name, x)
        if activation == "gelu":
            scaled = self._node("Div", f"{name}.scaled", x, self._number("root_of_two", 2**0.5))
            twice = self._node("Add", f"{name}.twice", self._node("Erf", f"{name}.erf", scaled), self._number("one", 1))
            return self._node("Mul", name, self._node("Mul", f"{name}.half", x, self._number("half", 0.5)), twice)
        return x

    def excite(self, x: str, name: str, widths: tuple[int, int], activation: ActivationOrNone, gate: Gate) -> str:
        width, squeezed = widths
        y = self._node("GlobalAveragePool", f"{name}.squeeze", x)
        y = self._pointwise(y, f"{name}.reduce", width, squeezed)
        y = self._pointwise(self.activate(y, activation, f"{name}.reduce"), f"{name}.expand", squeezed, width)
        slope = {"alpha": 1 / 6, "beta": 0.5} if gate == "hard_sigmoid" else {}
        y = self._node("HardSigmoid" if slope else "Sigmoid", f"{name}.gate", y, **slope)
        return self._node("Mul", name, x, y)

    def rescale(self, x: str, name: str) -> str:
        return self._node("Mul", f"{name}.scaled", x, self._constant(name, self.arrays[name].reshape(1, -1, 1, 1)))

    def add(self, x: str, y: str, name: str) -> str:
        return self._node("Add", f"{name}.add", x, y)

    def pool(self, x: str, stride: int) -> str:
        return self._node("MaxPool", "pool", x, kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4)

    def average(self, x: str) -> str:
        return self._node("Flatten", "vectors", self._node("GlobalAveragePool", "average", x), axis=1)

    def dense(self, x: str, name: str, widths: tuple[int, int]) -> str:
        parts = (self._constant(f"{name}.{part}", self.arrays[f"{name}.{part}"]) for part in ("kernel", "bias"))
        return self._node("Gemm", name, x, *parts)

    def _pointwise(self, x: str, name: str, width_in: int, width: int) -> str:
        """A fully connected layer as a convolution of 1×1 maps."""
        kernel = self.arrays[f"{name}.kernel"][None, None]
        return self._conv(
            x, Convolution(name, 1, width_in, width, 1, 1, (0, 0), width_in), kernel, self.arrays[f"{name}.bias"]
        )

    def _conv(self, x: str, layer: Convolution, kernel: np.ndarray, bias: np.ndarray | None) -> str:
        name, k, (before, after) = layer.name, layer.kernel_size, layer.pads
        parts = [self._constant(f"{name}.kernel", kernel.transpose(3, 2, 0, 1))]
        if bias is not None:
            parts.append(self._constant(f"{name}.bias", bias))
        return self._node(
            "Conv",
            name,
            x,
            *parts,
            kernel_shape=[k, k],
            strides=[layer.stride] * 2,
            pads=[before, before, after, after],
            group=layer.groups,
        )

    def _affine(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Batch normalisation as a factor and a summand of each channel, in float64."""
        scale, bias, mean, var = (
            np.float64(self.arrays[f"{name}.{part}"]) for part in ("scale", "bias", "mean", "var")
        )
        gain = scale / np.sqrt(var + self.epsilon)
        return gain, bias - mean * gain

    def _number(self, name: str, value: float) -> str:
        if all(each.name != name for each in self.initialisers):
            self._constant(name, np.asarray(value))
        return name

    def _constant(self, name: str, array: np.ndarray) -> str:
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def _node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        output = f"{name}:0"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output
