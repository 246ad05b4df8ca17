"""`--to timm`: a Python file that builds the exact network with timm's classes, and its weights by timm's names."""

from __future__ import annotations

from pathlib import Path

from scalesearch.export.blocks import Block, blocks_of
from scalesearch.export.mapping import Entry
from scalesearch.export.resnet_text import resnet_names, resnet_text
from scalesearch.export.torch_folder import ACTIVATIONS, constants, loading, preamble, stages_text, write_folder
from scalesearch.export.torch_layers import RESIDUAL, Layer, check_kinds, refuse, table_of
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.trained.card import ModelCard, NamedArrays

_KINDS = ("mbconv", "fused_mbconv", "separable", "basic", "bottleneck")

_TOP = {"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2"), "classifier": ("classifier", "")}

# Convolution and batch normalisation of each layer in a block of timm's, by the type that `_type` tells.
_ROLES: dict[str, dict[str, tuple[str, str]]] = {
    "ir": {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")},
    "ds": {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")},
    "dsa": {"depthwise": ("conv_dw", "bn1"), "pointwise": ("conv_pw", "bn2")},
    "er": {"expand": ("conv_exp", "bn1"), "project": ("conv_pwl", "bn2")},
    "cn": {"expand": ("conv", "bn1")},
}
_SQUEEZE = {"excite.reduce": ("se.conv_reduce", ""), "excite.expand": ("se.conv_expand", "")}


def table(spec: ArchitectureSpec) -> list[Entry]:
    """Our names and timm's. Raises `InputError` for a network that timm's classes do not have."""
    found = check_kinds(spec, "timm", _KINDS)
    if any(block.stride > 2 for stage in blocks_of(spec) for block in stage):
        refuse("timm", "the strides of its blocks are 1 or 2")
    return table_of(spec, resnet_names if found <= RESIDUAL else _efficientnet_names)


def export(card: ModelCard, arrays: NamedArrays | None, target: Path) -> None:
    """Writes model.py, model.safetensors and card.json into the folder `target`; without `arrays`, no weights.

    Raises `InputError` for a network that timm's classes do not have.
    """
    rows = table(card.spec)
    is_resnet = card.spec.stages[0].block in RESIDUAL
    build = resnet_text(card, "timm") if is_resnet else _efficientnet_text(card)
    text = preamble(card, "timm", arrays is not None) + build + loading(arrays is not None)
    write_folder(target, card, arrays, rows, text)


def _type(block: Block) -> str:
    """Timm's type of a block; `ds` and `cn` are those without expansion."""
    if block.kind == "mbconv":
        return "ir" if block.expands else "ds"
    if block.kind == "fused_mbconv":
        return "er" if block.expands else "cn"
    return "dsa"


def _efficientnet_names(layer: Layer) -> tuple[str, str]:
    if layer.block is None:
        return _TOP[layer.role]
    convolution, norm = {**_ROLES[_type(layer.block)], **_SQUEEZE}[layer.role]
    place = layer.block.name.replace("stages", "blocks")
    return f"{place}.{convolution}", f"{place}.{norm}"


def _efficientnet_text(card: ModelCard) -> str:
    """The part of model.py that builds an EfficientNet, or a MobileNet of version 1 or 2."""
    spec, stem = card.spec, card.spec.stem
    stages = [
        [(_type(b), b.kernel_size, b.stride, b.width_in, b.inner or b.width_in, b.squeezed, b.width) for b in stage]
        for stage in blocks_of(spec)
    ]
    padding = '"same"' if spec.padding == "same" else '""'
    # Timm's stem has stride 2; with another one it is timm's own layer, put in its place.
    restem, imported = "", ""
    if stem.stride != 2:
        restem = (
            f"\n    model.conv_stem = create_conv2d("
            f"{spec.in_channels}, {stem.width}, {stem.kernel_size}, stride={stem.stride}, padding={padding})"
        )
        imported = "from timm.layers import create_conv2d\n"
    return f'''
from functools import partial
from pathlib import Path
from unittest.mock import patch

from safetensors.torch import load_file
{imported}from timm.models import _efficientnet_blocks
from timm.models.efficientnet import EfficientNet
from torch import nn

{constants(card)}
# A row a block: type, kernel, stride, channels in, inner channels, those of squeeze-excite (0: none), channels out.
STAGES = {stages_text(stages)}


def block_arguments(kind, kernel, stride, width_in, inner, squeezed, width):
    """The arguments of a block as timm's builder takes them."""
    arguments = {{"block_type": kind, "stride": stride, "out_chs": width, "act_layer": None}}
    if kind == "cn":
        return {{**arguments, "kernel_size": kernel, "skip": True}}
    if kind == "er":
        return {{**arguments, "exp_kernel_size": kernel, "exp_ratio": inner / width_in}}
    arguments |= {{"dw_kernel_size": kernel, "se_ratio": squeezed / width_in}}
    if kind == "ir":
        return {{**arguments, "exp_ratio": inner / width_in}}
    return {{**arguments, "pw_act": kind == "dsa", "noskip": kind == "dsa"}}


def build(drop_rate=0.0, drop_path_rate=0.0):
    """The network with initial weights."""
    # Timm rounds the inner width of a block to a multiple of 8; here it is the whole number of the row.
    with patch.object(_efficientnet_blocks, "make_divisible", round):
        model = EfficientNet(
            [[block_arguments(*row) for row in rows] for rows in STAGES],
            num_classes={spec.num_classes},
            num_features={spec.head_width},
            in_chans={spec.in_channels},
            stem_size={stem.width},
            stem_kernel_size={stem.kernel_size},
            output_stride=2**30,  # no stride becomes a dilation
            pad_type={padding},
            act_layer={ACTIVATIONS[spec.activation]},
            norm_layer=partial(nn.BatchNorm2d, eps={spec.norm_epsilon!r}),
            round_chs_fn=round,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        ){restem}
    return model
'''
