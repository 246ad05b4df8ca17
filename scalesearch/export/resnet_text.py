"""ResNets of timm and torchvision, which name their layers and write their blocks alike."""

from __future__ import annotations

from typing import Literal

from scalesearch.export.torch_folder import ACTIVATIONS, constants
from scalesearch.export.torch_layers import Layer
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.stage import StageSpec
from scalesearch.trained.card import ModelCard

Library = Literal["timm", "torchvision"]

_TOP = {"stem": ("conv1", "bn1"), "classifier": ("fc", "")}
_PLACES = {"reduce": 1, "first": 1, "middle": 2, "second": 2, "expand": 3}
_PUBLISHED = [64, 128, 256, 512]
"""The inner widths of torchvision's class, which it does not let one choose."""


def resnet_names(layer: Layer) -> tuple[str, str]:
    """The libraries' names of a layer and of its batch normalisation."""
    if layer.block is None:
        return _TOP[layer.role]
    _, stage, block = layer.block.name.split(".")
    place = f"layer{int(stage) + 1}.{block}"
    if layer.role == "shortcut":
        return f"{place}.downsample.0", f"{place}.downsample.1"
    number = _PLACES[layer.role]
    return f"{place}.conv{number}", f"{place}.bn{number}"


def resnet_text(card: ModelCard, library: Library) -> str:
    """The part of model.py that builds a ResNet: by the library's class if that can have it, else of its blocks."""
    spec = card.spec
    activation, planes = ACTIVATIONS[spec.activation], [_planes(stage) for stage in spec.stages]
    block = "BasicBlock" if spec.stages[0].block == "basic" else "Bottleneck"
    expansion = int(spec.stages[0].expand_ratio)
    own_block = ""
    if block == "Bottleneck" and expansion != 4:
        own_block = f'''
class Block(Bottleneck):
    """A bottleneck whose output has {expansion} times its inner width."""

    expansion = {expansion}

'''
    arguments = {"layers": [stage.depth for stage in spec.stages], "num_classes": spec.num_classes}
    if library == "timm":
        arguments |= {"in_chans": spec.in_channels, "channels": tuple(planes)}
    classic = _has_usual_form(spec) and (library == "timm" or (planes == _PUBLISHED and spec.in_channels == 3))
    values = {
        "block": "Block" if own_block else block,
        "imported": ", ".join(sorted({block} | ({"ResNet"} if classic else set()))),
        "library": library,
        "constants": constants(card),
        "own_block": own_block + ("\n" if own_block and not classic else ""),
        "arguments": "".join(f"        {name}={value},\n" for name, value in arguments.items()),
        "activation": f", act_layer={activation}" if library == "timm" else "",
        "activation_line": f"        act_layer={activation},\n" if library == "timm" else "",
        "epsilon": spec.norm_epsilon,
        "rows": [(stage.depth, stage.stride, _planes(stage)) for stage in spec.stages],
        "stem": f"{spec.in_channels}, {spec.stem.width}, {spec.stem.kernel_size}",
        "stem_stride": spec.stem.stride,
        "width": spec.stem.width,
        "stem_padding": spec.stem.kernel_size // 2,
        "stem_activation": activation,
        "pool": f"nn.MaxPool2d(3, {spec.stem.pool_stride}, padding=1)"
        if spec.stem.pool_stride > 1
        else "nn.Identity()",
        "last": spec.stages[-1].width,
        "classes": spec.num_classes,
    }
    text = _HEAD + (_CLASSIC if classic else _ASSEMBLED)
    return text.format_map(values)


def _planes(stage: StageSpec) -> int:
    return stage.width // int(stage.expand_ratio)


def _has_usual_form(spec: ArchitectureSpec) -> bool:
    """Whether the stem and the strides are those of the published ResNets."""
    stem = (spec.stem.width, spec.stem.kernel_size, spec.stem.stride, spec.stem.pool_stride)
    return stem == (64, 7, 2, 2) and [stage.stride for stage in spec.stages] == [1, 2, 2, 2]


_HEAD = """
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from torch import nn
from {library}.models.resnet import {imported}

{constants}
{own_block}"""

_CLASSIC = '''
def build(**options):
    """The network with initial weights; `options` are those of the class ResNet."""
    return ResNet(
        {block},
{arguments}        norm_layer=partial(nn.BatchNorm2d, eps={epsilon!r}),
{activation_line}        **options,
    )
'''

_ASSEMBLED = '''# A row a stage: blocks, stride of the first one, inner channels.
STAGES = {rows}


class Network(nn.Module):
    """A ResNet of other sizes than those of the class ResNet: of the same blocks, with the same names."""

    def __init__(self):
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps={epsilon!r})
        self.conv1 = nn.Conv2d({stem}, stride={stem_stride}, padding={stem_padding}, bias=False)
        self.bn1 = norm({width})
        self.act1 = {stem_activation}(inplace=True)
        self.maxpool = {pool}
        width, self.stages = {width}, len(STAGES)
        for number, (depth, stride, planes) in enumerate(STAGES):
            blocks = []
            for place in range(depth):
                step, last = stride if place == 0 else 1, planes * {block}.expansion
                downsample = None
                if step != 1 or width != last:
                    downsample = nn.Sequential(nn.Conv2d(width, last, 1, stride=step, bias=False), norm(last))
                blocks.append({block}(width, planes, step, downsample, norm_layer=norm{activation}))
                width = last
            self.add_module(f"layer{{number + 1}}", nn.Sequential(*blocks))
        self.fc = nn.Linear({last}, {classes})

    def forward(self, x):
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        for number in range(self.stages):
            x = self.get_submodule(f"layer{{number + 1}}")(x)
        return self.fc(x.mean((2, 3)))


def build():
    """The network with initial weights."""
    return Network()
'''
