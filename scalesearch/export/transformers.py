"""`--to transformers`: config.json and model.safetensors that `from_pretrained` of HuggingFace transformers loads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from scalesearch.export.blocks import Block, blocks_of
from scalesearch.export.mapping import Entry
from scalesearch.export.torch_folder import unit_statistics, write_folder
from scalesearch.export.torch_layers import RESIDUAL, Layer, table_of
from scalesearch.export.transformers_limits import check, rounding_of
from scalesearch.runtime.files import write_text
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.trained.card import ModelCard, NamedArrays

RESNET_EPSILON = 1e-5
"""ε of the batch normalisation of transformers' ResNet, which its configuration does not have."""


def table(spec: ArchitectureSpec) -> list[Entry]:
    """Our names and transformers'. Raises `InputError` for a network that transformers does not have."""
    check(spec)
    if spec.stages[0].block in RESIDUAL:
        return table_of(spec, _resnet_names)
    first = [sum(spec.depths[:stage]) for stage in range(len(spec.stages))]
    return table_of(spec, lambda layer: _efficientnet_names(layer, first))


def export(card: ModelCard, arrays: NamedArrays | None, target: Path) -> None:
    """Writes config.json, preprocessor_config.json, model.safetensors and card.json into the folder `target`.

    Without `arrays`, no weights. Raises `InputError` for a network that transformers does not have.
    """
    rows, text = table(card.spec), None
    if card.spec.stages[0].block in RESIDUAL:
        card, arrays = _with_epsilon(card, arrays)
        config = _resnet_config(card.spec)
    else:
        config = _efficientnet_config(card)
        if _is_shifted(card.spec):
            config["auto_map"] = {"AutoModelForImageClassification": "model.ShiftedEfficientNet"}
            text = _SHIFTED
    write_folder(target, card, arrays, rows, text)
    names = list(card.classes) or [f"LABEL_{index}" for index in range(card.spec.num_classes)]
    config |= {
        "num_channels": card.spec.in_channels,
        "dtype": "float32",
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }
    write_text(target / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    if (processor := _processor(card)) is not None:
        write_text(target / "preprocessor_config.json", json.dumps(processor, indent=2) + "\n")


def _is_shifted(spec: ArchitectureSpec) -> bool:
    """Whether the stem also pads before the map; transformers' pads behind it alone."""
    return spec.padding == "symmetric" or spec.resolution % 2 == 1


def _symmetric_blocks(spec: ArchitectureSpec) -> list[int]:
    """The numbers of the blocks with stride 2 that pad k // 2 on each side; TensorFlow's do so on maps of odd size."""
    size, found, number = -(-spec.resolution // spec.stem.stride), [], 0
    for block in (block for stage in blocks_of(spec) for block in stage):
        if block.stride == 2 and (spec.padding == "symmetric" or size % 2 == 1):
            found.append(number)
        size, number = -(-size // block.stride), number + 1
    return found


def _efficientnet_config(card: ModelCard) -> dict[str, Any]:
    spec = card.spec
    coefficient, divisor, unrounded = rounding_of(spec)
    return {
        "architectures": ["EfficientNetForImageClassification"],
        "model_type": "efficientnet",
        "image_size": spec.resolution,
        "width_coefficient": coefficient,
        "depth_coefficient": 1.0,
        "depth_divisor": divisor,
        "kernel_sizes": [stage.kernel_size for stage in spec.stages],
        "in_channels": [unrounded[width] for width in (spec.stem.width, *spec.widths[1:-2])],
        "out_channels": [unrounded[stage.width] for stage in spec.stages],
        "depthwise_padding": _symmetric_blocks(spec),
        "strides": [stage.stride for stage in spec.stages],
        "num_block_repeats": list(spec.depths),
        "expand_ratios": [int(stage.expand_ratio) for stage in spec.stages],
        "squeeze_expansion_ratio": spec.stages[0].se_ratio,
        "hidden_act": spec.activation,
        "hidden_dim": spec.head_width,
        "pooling_type": "mean",
        "batch_norm_eps": spec.norm_epsilon,
        "batch_norm_momentum": 0.01,  # PyTorch's, 1 - 0.99
        "dropout_rate": card.training.get("dropout", 0.0),
        "drop_connect_rate": 0.0,
    }


def _resnet_config(spec: ArchitectureSpec) -> dict[str, Any]:
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "embedding_size": spec.stem.width,
        "hidden_sizes": [stage.width for stage in spec.stages],
        "depths": list(spec.depths),
        "layer_type": spec.stages[0].block,
        "hidden_act": "relu",
        "downsample_in_first_stage": spec.stages[0].stride == 2,
        "downsample_in_bottleneck": False,
    }


def _with_epsilon(card: ModelCard, arrays: NamedArrays | None) -> tuple[ModelCard, NamedArrays | None]:
    """The same network with the ε of transformers' ResNet: scales become γ · √((σ² + ε′) / (σ² + ε))."""
    epsilon = card.spec.norm_epsilon
    spec = dataclasses.replace(card.spec, norm_epsilon=RESNET_EPSILON)
    card = card.model_copy(update={"spec": spec})
    if arrays is None or epsilon == RESNET_EPSILON:
        return card, arrays
    scaled = dict(arrays)
    for name in arrays:
        if name.endswith(".norm.scale"):
            variance = arrays[name.removesuffix("scale") + "var"].astype(np.float64)
            factor = np.sqrt((variance + RESNET_EPSILON) / (variance + epsilon))
            scaled[name] = (arrays[name] * factor).astype(np.float32)
    return card, scaled


def _processor(card: ModelCard) -> dict[str, Any] | None:
    """What transformers' image processor reads; None if none of them does what the card says."""
    if card.preprocessing is None or card.preprocessing.fit == "pad":
        return None
    size, (mean, std) = card.spec.resolution, unit_statistics(card.preprocessing)
    square = {"height": size, "width": size}
    crops = card.preprocessing.fit == "crop"
    return {
        "image_processor_type": "BitImageProcessor" if crops else "ViTImageProcessor",
        **({"do_center_crop": True, "crop_size": square} if crops else {}),
        "do_convert_rgb": card.spec.in_channels == 3,
        "do_resize": True,
        "size": {"shortest_edge": size} if crops else square,
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }


_SHIFTED = '''"""EfficientNet of transformers whose stem pads on all sides.

    model = ShiftedEfficientNet.from_pretrained(folder)
    model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)  # the same

Transformers pads the input of the stem at its end alone. A network that was trained with zeros on all sides needs a row
and a column of them before it, and this class adds them. Without this class, add them to the normalised images:
torch.nn.functional.pad(pixel_values, (1, 0, 1, 0)).
"""

from torch.nn.functional import pad
from transformers import EfficientNetForImageClassification


class ShiftedEfficientNet(EfficientNetForImageClassification):
    """EfficientNetForImageClassification with zeros before the input of the stem."""

    def forward(self, pixel_values=None, **arguments):
        return super().forward(pad(pixel_values, (1, 0, 1, 0)), **arguments)
'''


def _efficientnet_names(layer: Layer, first: list[int]) -> tuple[str, str]:
    """`first` are the numbers of the first block of each stage."""
    block = layer.block
    if block is None:
        return {
            "stem": ("efficientnet.embeddings.convolution", "efficientnet.embeddings.batchnorm"),
            "head": ("efficientnet.encoder.top_conv", "efficientnet.encoder.top_bn"),
            "classifier": ("classifier", ""),
        }[layer.role]
    place = f"efficientnet.encoder.blocks.{_number(block, first)}"
    convolution, norm = {
        "expand": ("expansion.expand_conv", "expansion.expand_bn"),
        "depthwise": ("depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"),
        "excite.reduce": ("squeeze_excite.reduce", ""),
        "excite.expand": ("squeeze_excite.expand", ""),
        "project": ("projection.project_conv", "projection.project_bn"),
    }[layer.role]
    return f"{place}.{convolution}", f"{place}.{norm}"


def _number(block: Block, first: list[int]) -> int:
    _, stage, place = block.name.split(".")
    return first[int(stage)] + int(place)


def _resnet_names(layer: Layer) -> tuple[str, str]:
    block = layer.block
    if block is None:
        if layer.role == "classifier":
            return "classifier.1", ""
        place = "resnet.embedder.embedder"
    else:
        _, stage, number = block.name.split(".")
        place = f"resnet.encoder.stages.{stage}.layers.{number}"
        inner = {"reduce": 0, "first": 0, "middle": 1, "second": 1, "expand": 2}
        place += ".shortcut" if layer.role == "shortcut" else f".layer.{inner[layer.role]}"
    return f"{place}.convolution", f"{place}.normalization"
