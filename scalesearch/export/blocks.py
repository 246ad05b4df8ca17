"""The blocks of a network with every width as a whole number: what exporters build from, whatever their library."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scalesearch.errors import InputError
from scalesearch.scaling.architecture import Activation, ArchitectureSpec
from scalesearch.scaling.cost.mbconv import expanded
from scalesearch.scaling.stage import StageSpec


class Block(NamedTuple):
    """One block.

    Attributes:
        name: its plain name, as in `models.names`: `stages.2.0`.
        kind: the kind of block.
        kernel_size, stride, width_in, width: as in a stage.
        inner: channels between the convolutions; of `separable`, `basic` and `preactivation` the width; of a
            `fused_mbconv` that does not expand, those of its input.
        squeezed: channels of squeeze-excite between its layers; 0 for none.
        group_width: channels in each group of the k×k convolution; 0 if it has no groups.
        activation: that of the block.
        expands: whether an inverted residual block has an expansion.
    """

    name: str
    kind: str
    kernel_size: int
    stride: int
    width_in: int
    width: int
    inner: int
    squeezed: int
    group_width: int
    activation: Activation
    expands: bool

    @property
    def same_shape(self) -> bool:
        """Whether its maps keep their shape: then a residual block adds its input itself."""
        return self.stride == 1 and self.width_in == self.width


def blocks_of(spec: ArchitectureSpec) -> list[list[Block]]:
    """The blocks of each stage. Raises `InputError` for code of the user's own, which no library has."""
    if spec.module:
        raise InputError(f"a network of your own ({spec.module}) is code, which no exporter can translate")
    width, stages = spec.stem.width, []
    for number, stage in enumerate(spec.stages):
        if stage.block_module:
            raise InputError(f"blocks of your own ({stage.block}) are code, which no exporter can translate")
        blocks = []
        for place in range(stage.depth):
            stride = stage.stride if place == 0 else 1
            blocks.append(_block(f"stages.{number}.{place}", stage, width, stride, spec.activation))
            width = stage.width
        stages.append(blocks)
    return stages


def _block(name: str, stage: StageSpec, width_in: int, stride: int, activation: Activation) -> Block:
    inner = _inner(stage, width_in)
    squeezed = int(_any(stage).squeezed(np.asarray(width_in))) if stage.se_ratio else 0
    group_width = getattr(stage, "group_width", 0)
    activation = getattr(stage, "activation", None) or activation
    sizes = (stage.kernel_size, stride, width_in, stage.width, inner, squeezed, group_width)
    return Block(name, stage.block, *sizes, activation, stage.expand_ratio != 1)


def _inner(stage: StageSpec, width_in: int) -> int:
    if stage.block in ("mbconv", "bneck", "fused_mbconv"):
        return int(_any(stage).inner(np.asarray(width_in)))
    if stage.block in ("bottleneck", "grouped_bottleneck"):
        return stage.width // int(stage.expand_ratio)
    if stage.block == "convnext":
        return int(expanded(np.asarray(stage.width), stage.expand_ratio))
    return stage.width


def _any(stage: StageSpec) -> Any:
    """A stage whose kind has further methods."""
    return stage
