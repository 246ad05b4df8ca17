"""`--to torchvision`: a Python file that builds the exact network with torchvision's classes, and its weights."""

from __future__ import annotations

from pathlib import Path

from scalesearch.export.blocks import Block, blocks_of
from scalesearch.export.mapping import Entry
from scalesearch.export.resnet_text import resnet_names, resnet_text
from scalesearch.export.torch_folder import constants, loading, preamble, stages_text, write_folder
from scalesearch.export.torch_layers import RESIDUAL, Layer, check_kinds, refuse, table_of
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.trained.card import ModelCard, NamedArrays

_KINDS = ("mbconv", "fused_mbconv", "basic", "bottleneck")


def table(spec: ArchitectureSpec) -> list[Entry]:
    """Our names and torchvision's. Raises `InputError` for a network that torchvision's classes do not have."""
    _check(spec)
    if spec.stages[0].block in RESIDUAL:
        return table_of(spec, resnet_names)
    if _is_mobilenet(spec):
        return table_of(spec, lambda layer: _mobilenet_names(layer, spec))
    return table_of(spec, lambda layer: _efficientnet_names(layer, len(spec.stages)))


def export(card: ModelCard, arrays: NamedArrays | None, target: Path) -> None:
    """Writes model.py, model.safetensors and card.json into the folder `target`; without `arrays`, no weights.

    Raises `InputError` for a network that torchvision's classes do not have.
    """
    spec, rows = card.spec, table(card.spec)
    if spec.stages[0].block in RESIDUAL:
        build = resnet_text(card, "torchvision")
    else:
        build = _mobilenet_text(card) if _is_mobilenet(spec) else _efficientnet_text(card)
    text = preamble(card, "torchvision", arrays is not None) + build + loading(arrays is not None)
    write_folder(target, card, arrays, rows, text)


def _is_mobilenet(spec: ArchitectureSpec) -> bool:
    """Whether the network has the blocks of torchvision's MobileNetV2, and not those of its EfficientNet."""
    return spec.activation == "relu6"


def _check(spec: ArchitectureSpec) -> None:
    """Raises `InputError` for a network that torchvision's classes do not have."""
    found = check_kinds(spec, "torchvision", _KINDS)
    blocks = [block for stage in blocks_of(spec) for block in stage]
    if spec.padding != "symmetric":
        refuse("torchvision", f"it pads symmetrically, but `padding` is {spec.padding}")
    if found & RESIDUAL:
        if spec.activation != "relu":
            refuse("torchvision", f"the activation of its ResNets is relu, but `activation` is {spec.activation}")
        return
    if any(block.stride > 2 for block in blocks):
        refuse("torchvision", "the strides of its blocks are 1 or 2")
    if any(block.expands and block.inner == block.width_in for block in blocks):
        refuse("torchvision", "its blocks have no expansion where the inner width is that of the input")
    if _is_mobilenet(spec):
        if any(block.kind != "mbconv" or block.squeezed or block.kernel_size != 3 for block in blocks):
            refuse("torchvision", "its blocks with relu6, MobileNetV2's, are 3×3 without squeeze-excite")
        return
    if spec.activation != "swish":
        refuse("torchvision", f"the activation of its EfficientNet is swish, but `activation` is {spec.activation}")


def _efficientnet_names(layer: Layer, stages: int) -> tuple[str, str]:
    if layer.block is None:
        return {
            "stem": ("features.0.0", "features.0.1"),
            "head": (f"features.{stages + 1}.0", f"features.{stages + 1}.1"),
            "classifier": ("classifier.1", ""),
        }[layer.role]
    block = layer.block
    _, stage, number = block.name.split(".")
    place = f"features.{int(stage) + 1}.{number}.block"
    first = int(block.expands)  # the place of what follows the expansion
    if layer.role.startswith("excite"):
        return f"{place}.{first + 1}.fc{1 if layer.role == 'excite.reduce' else 2}", ""
    depthwise, project = (first, first + 2) if block.kind == "mbconv" else (0, 1)
    index = {"expand": 0, "depthwise": depthwise, "project": project}[layer.role]
    return f"{place}.{index}.0", f"{place}.{index}.1"


def _mobilenet_names(layer: Layer, spec: ArchitectureSpec) -> tuple[str, str]:
    if layer.block is None:
        last = sum(spec.depths) + 1
        return {
            "stem": ("features.0.0", "features.0.1"),
            "head": (f"features.{last}.0", f"features.{last}.1"),
            "classifier": ("classifier.1", ""),
        }[layer.role]
    block = layer.block
    _, stage, number = block.name.split(".")
    place = f"features.{sum(spec.depths[: int(stage)]) + int(number) + 1}.conv"
    first = int(block.expands)
    if layer.role == "project":
        return f"{place}.{first + 1}", f"{place}.{first + 2}"
    index = 0 if layer.role == "expand" else first
    return f"{place}.{index}.0", f"{place}.{index}.1"


def _row(block: Block) -> tuple[object, ...]:
    """Kernel, stride, channels in, inner channels, those of squeeze-excite, channels out."""
    inner = block.inner if block.expands else block.width_in
    return (block.kernel_size, block.stride, block.width_in, inner, block.squeezed, block.width)


def _efficientnet_text(card: ModelCard) -> str:
    """The part of model.py that builds an EfficientNet."""
    spec, stem = card.spec, card.spec.stem
    stages = [[(block.kind == "fused_mbconv", *_row(block)) for block in stage] for stage in blocks_of(spec)]
    after = ""
    if (spec.in_channels, stem.kernel_size, stem.stride) != (3, 3, 2):  # those of torchvision's class
        after += (
            f"\n    model.features[0] = Conv2dNormActivation({spec.in_channels}, {stem.width}, {stem.kernel_size}, "
            f"stride={stem.stride}, norm_layer=norm, activation_layer=nn.SiLU)"
        )
    if not spec.head_width:
        after += "\n    model.features[-1] = nn.Identity()  # no head"
    return f'''
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from torch import nn
from torchvision.models.efficientnet import EfficientNet, FusedMBConv, MBConv, MBConvConfig
from torchvision.ops.misc import Conv2dNormActivation, SqueezeExcitation

{constants(card)}
# A row a block: whether its convolutions are fused, kernel, stride, channels in, inner channels, those of
# squeeze-excite (0: none), channels out.
STAGES = {stages_text(stages)}


class Exact(MBConvConfig):
    """A stage whose widths are taken as they are: torchvision's class rounds them to multiples of 8."""

    def __init__(self, expand_ratio, kernel, stride, width_in, width, depth, block):
        super().__init__(expand_ratio, kernel, stride, width_in, width, depth, block=block)

    @staticmethod
    def adjust_channels(channels, width_mult, min_value=None):
        return round(channels * width_mult)


def stage(rows):
    """The stage whose blocks are `rows`, as torchvision's EfficientNet takes it."""
    remaining = iter(rows)

    def block(_, stochastic_depth_prob, norm_layer):
        fused, kernel, stride, width_in, inner, squeezed, width = next(remaining)
        kind = FusedMBConv if fused else MBConv
        config = Exact(inner / width_in, kernel, stride, width_in, width, 1, kind)
        if fused:
            return FusedMBConv(config, stochastic_depth_prob, norm_layer)

        def squeeze_excite(channels, _, activation):
            return SqueezeExcitation(channels, squeezed, activation=activation) if squeezed else nn.Identity()

        return MBConv(config, stochastic_depth_prob, norm_layer, se_layer=squeeze_excite)

    _, kernel, stride, width_in, _, _, width = rows[0]
    return Exact(1, kernel, stride, width_in, width, len(rows), block)


def build(dropout=0.0, stochastic_depth_prob=0.0):
    """The network with initial weights."""
    norm = partial(nn.BatchNorm2d, eps={spec.norm_epsilon!r})
    model = EfficientNet(
        [stage(rows) for rows in STAGES],
        dropout,
        stochastic_depth_prob,
        num_classes={spec.num_classes},
        norm_layer=norm,
        last_channel={spec.head_width or spec.stages[-1].width},
    ){after}
    return model
'''


def _mobilenet_text(card: ModelCard) -> str:
    """The part of model.py that builds a MobileNetV2."""
    spec, stem = card.spec, card.spec.stem
    rows = [[_row(block)[1:4] + _row(block)[5:] for block in stage] for stage in blocks_of(spec)]
    last = spec.stages[-1].width
    relu6 = "norm_layer=norm, activation_layer=nn.ReLU6"
    head = f"\n        Conv2dNormActivation({last}, {spec.head_width}, 1, {relu6})," if spec.head_width else ""
    return f'''
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual, MobileNetV2
from torchvision.ops.misc import Conv2dNormActivation

{constants(card)}
# A row a block: stride, channels in, inner channels, channels out.
STAGES = {stages_text(rows)}


def build(dropout=0.0):
    """The network with initial weights."""
    norm = partial(nn.BatchNorm2d, eps={spec.norm_epsilon!r})
    model = MobileNetV2(num_classes=1, inverted_residual_setting=[[1, 1, 1, 1]])
    # Its class has stem and head of widths that one cannot choose: the same layers, with the exact ones.
    model.features = nn.Sequential(
        Conv2dNormActivation({spec.in_channels}, {stem.width}, {stem.kernel_size}, stride={stem.stride}, {relu6}),
        *(
            InvertedResidual(width_in, width, stride, inner / width_in, norm_layer=norm)
            for rows in STAGES
            for stride, width_in, inner, width in rows
        ),{head}
    )
    model.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear({spec.head_width or last}, {spec.num_classes}))
    model.last_channel = {spec.head_width or last}
    return model
'''
