"""A network as pure data: `ArchitectureSpec`, its parts, and their JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from scalesearch.scaling.stage import StageSpec, require_choice, require_odd, require_whole

Activation = Literal["swish", "relu", "relu6"]

ACTIVATIONS: tuple[str, ...] = get_args(Activation)


@dataclass(frozen=True, slots=True)
class StemSpec:
    """The first convolution, and the 3×3 max pool behind it when `pool_stride` is above 1 (ResNet)."""

    width: int
    kernel_size: int
    stride: int
    pool_stride: int = 1

    def __post_init__(self) -> None:
        require_whole("width", self.width, 1)
        require_odd("kernel_size", self.kernel_size)
        require_whole("stride", self.stride, 1)
        require_whole("pool_stride", self.pool_stride, 1)


@dataclass(frozen=True, slots=True)
class ArchitectureSpec:
    """A convolutional network: stem, stages, an optional 1×1 head convolution, pooling, classifier.

    Every convolution is followed by batch normalisation and has SAME padding, so a stride s turns
    a map of size n into one of size ⌈n/s⌉. `head_width` 0 means that the classifier follows the last stage.
    """

    resolution: int
    in_channels: int
    num_classes: int
    stem: StemSpec
    stages: tuple[StageSpec, ...]
    head_width: int
    activation: Activation = "swish"

    def __post_init__(self) -> None:
        for name in ("resolution", "in_channels", "num_classes"):
            require_whole(name, getattr(self, name), 1)
        if not self.stages:
            raise ValueError("`stages` must hold at least one stage, but got none")
        require_whole("head_width", self.head_width, 0)
        require_choice("activation", self.activation, ACTIVATIONS)

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of each stage."""
        return tuple(stage.depth for stage in self.stages)

    @property
    def widths(self) -> tuple[int, ...]:
        """Stem width, the width of each stage, head width (0 for none)."""
        return (self.stem.width, *(stage.width for stage in self.stages), self.head_width)

    def with_sizes(self, depths: tuple[int, ...], widths: tuple[int, ...], resolution: int) -> ArchitectureSpec:
        """The same network with other `depths` (one per stage), `widths` (as in `widths`) and resolution."""
        stages = tuple(
            dataclasses.replace(stage, depth=depth, width=width)
            for stage, depth, width in zip(self.stages, depths, widths[1:-1], strict=True)
        )
        stem = dataclasses.replace(self.stem, width=widths[0])
        return dataclasses.replace(self, resolution=resolution, stem=stem, stages=stages, head_width=widths[-1])

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the contract; `activation` and `stem.pool_stride` appear unless they are the default."""
        document = dataclasses.asdict(self)
        document["stages"] = [dataclasses.asdict(stage) for stage in self.stages]
        if self.activation == "swish":
            del document["activation"]
        if self.stem.pool_stride == 1:
            del document["stem"]["pool_stride"]
        return document
