"""The layers of a network by the names that keras.applications gives them, and the table of their arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from scalesearch.export.blocks import blocks_of
from scalesearch.export.graph import ActivationOrNone, Builder, Convolution, Gate, build
from scalesearch.export.mapping import Entry, Kind
from scalesearch.scaling.architecture import ArchitectureSpec

NORM = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}
"""The variables of BatchNormalization, in the order of its weights, and ours."""

# Our part of a block, then Keras' convolution, normalisation and activation.
_EFFICIENTNET = {
    "expand": ("expand_conv", "expand_bn", "expand_activation"),
    "depthwise": ("dwconv", "bn", "activation"),
    "project": ("project_conv", "project_bn", ""),
}
_MOBILENET_V2 = {
    "expand": ("expand", "expand_BN", "expand_relu"),
    "depthwise": ("depthwise", "depthwise_BN", "depthwise_relu"),
    "project": ("project", "project_BN", ""),
}
_ENDS = {
    "efficientnet": {
        "stem": ("stem_conv", "stem_bn", "stem_activation"),
        "head": ("top_conv", "top_bn", "top_activation"),
    },
    "mobilenet_v2": {"stem": ("Conv1", "bn_Conv1", "Conv1_relu"), "head": ("Conv_1", "Conv_1_bn", "out_relu")},
}


class Names(NamedTuple):
    """The names of a layer's convolution, normalisation and activation."""

    convolution: str
    norm: str
    activation: str


def namer(spec: ArchitectureSpec) -> Callable[[str], Names]:
    """From our name of a convolution with its normalisation to Keras' names.

    They are those of EfficientNet for a network of mbconv blocks, those of MobileNetV2 if it has relu6 and no
    squeeze-excite, and else ours with underscores.
    """
    stages = blocks_of(spec)
    blocks = [block for stage in stages for block in stage]
    style = "plain"
    if all(block.kind == "mbconv" for block in blocks):
        lite = spec.activation == "relu6" and not any(block.squeezed for block in blocks)
        style = "mobilenet_v2" if lite else "efficientnet"
    prefixes = {}
    for count, block in enumerate(blocks):
        stage, place = map(int, block.name.split(".")[1:])
        mobile = f"block_{count}_" if count else "expanded_conv_"
        prefixes[block.name] = f"block{stage + 1}{_letters(place)}_" if style == "efficientnet" else mobile

    def names(ours: str) -> Names:
        if style == "plain":
            plain = ours.replace(".", "_")
            return Names(plain, f"{plain}_bn", f"{plain}_activation")
        if ours in _ENDS[style]:
            return Names(*_ENDS[style][ours])
        block, _, part = ours.rpartition(".")
        prefix, parts = prefixes.get(block, ""), _EFFICIENTNET if style == "efficientnet" else _MOBILENET_V2
        if part in ("excite", "add"):
            return Names(*[f"{prefix}{'se' if part == 'excite' else 'add'}"] * 3)
        return Names(*(prefix + name for name in parts[part]))

    return names


def _letters(place: int) -> str:
    """A to z, then aa, ab …, for the blocks of a stage."""
    return chr(97 + place) if place < 26 else _letters(place // 26 - 1) + _letters(place % 26)


def table(spec: ArchitectureSpec) -> list[Entry]:
    """The arrays of the network: theirs are "layer/variable", such as `block1a_bn/gamma`."""
    return layers(spec).entries


def layers(spec: ArchitectureSpec) -> Layers:
    """The layers of the network that have arrays."""
    found = Layers(namer(spec))
    build(spec, found, None)
    return found


class Layers(Builder[None]):
    """Lists convolutions and arrays; there are no maps.

    Attributes:
        convolutions: by Keras' name.
        entries: the table.
    """

    def __init__(self, names: Callable[[str], Names]) -> None:
        self.names = names
        self.convolutions: dict[str, Convolution] = {}
        self.entries: list[Entry] = []

    def _add(self, ours: str, theirs: str, variables: Mapping[str, str], kinds: Mapping[str, Kind]) -> None:
        self.entries += [
            Entry(f"{ours}.{mine}", f"{theirs}/{their}", kinds.get(mine, "vector")) for their, mine in variables.items()
        ]

    def convolve(self, x: None, layer: Convolution) -> None:
        """A convolution."""
        name = self.names(layer.name).convolution
        self.convolutions[name] = layer
        depthwise = layer.group_width == 1 and layer.width_in > 1
        parts = {"kernel": "kernel"} | ({"bias": "bias"} if layer.biased else {})
        self._add(layer.name, name, parts, {"kernel": "depthwise" if depthwise else "convolution"})

    def normalise(self, x: None, name: str) -> None:
        """A batch normalisation."""
        self._add(name, norm_name(self.names, name), NORM, {})

    def excite(self, x: None, name: str, widths: tuple[int, int], activation: ActivationOrNone, gate: Gate) -> None:
        """Both layers of squeeze-excite."""
        prefix = self.names(name).convolution
        for part in ("reduce", "expand"):
            self._add(
                f"{name}.{part}", f"{prefix}_{part}", {"kernel": "kernel", "bias": "bias"}, {"kernel": "pointwise"}
            )

    def dense(self, x: None, name: str, widths: tuple[int, int]) -> None:
        """A fully connected layer."""
        self._add(name, dense_name(name), {"kernel": "kernel", "bias": "bias"}, {"kernel": "dense"})

    def layer_normalise(self, x: None, name: str, *, maps: bool) -> None:
        """A layer normalisation."""
        self._add(name, name.replace(".", "_"), {"gamma": "scale", "beta": "bias"}, {})

    def rescale(self, x: None, name: str) -> None:
        """The layer scale of a `convnext` block, which is left out: Keras has no layer for it."""

    def activate(self, x: None, activation: ActivationOrNone, name: str) -> None:
        """No arrays."""

    def add(self, x: None, y: None, name: str) -> None:
        """No arrays."""

    def pool(self, x: None, stride: int) -> None:
        """No arrays."""

    def average(self, x: None) -> None:
        """No arrays."""


def pad_name(convolution: str) -> str:
    """Keras' name of the layer that pads before a convolution."""
    return f"{convolution.removesuffix('_depthwise')}_pad"


def norm_name(names: Callable[[str], Names], ours: str) -> str:
    """Keras' name of a batch normalisation: of a convolution (`….norm`), or by itself."""
    layer, _, part = ours.rpartition(".")
    alone = part != "norm" or layer.count(".") == 2  # `maps_norm`, and `stages.0.0.norm` of a preactivation block
    return ours.replace(".", "_") if alone else names(layer).norm


def dense_name(ours: str) -> str:
    """Keras' name of a fully connected layer."""
    return "predictions" if ours == "classifier" else ours
