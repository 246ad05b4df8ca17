"""A network as pure data: `ArchitectureSpec`, its parts, and their JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from scalesearch.errors import InputError
from scalesearch.scaling.stage import StageSpec, require_choice, require_odd, require_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Activation = Literal["swish", "relu", "relu6", "hard_swish", "gelu"]
Norm = Literal["batch", "layer", "none"]
Padding = Literal["symmetric", "same"]

ACTIVATIONS: tuple[str, ...] = get_args(Activation)
NORMS: tuple[str, ...] = get_args(Norm)
PADDINGS: tuple[str, ...] = get_args(Padding)

NORM_EPSILON = 1e-3
"""What batch normalisation adds to the variance, as in the released EfficientNet (`batch_norm_epsilon`)."""


_MOST_STAGES = 200
# A block has some layers of so many weights each: 64 bits hold the sum.
_MOST_WEIGHTS = 2**58


@dataclass(frozen=True, slots=True)
class StemSpec:
    """The first convolution, and the 3×3 max pool behind it when `pool_stride` is above 1 (ResNet).

    An even kernel must equal the stride: it cuts the image into patches (ConvNeXt). `norm` is what follows the
    convolution: `batch`, batch normalisation and the activation; `layer`, a bias and layer normalisation; `none`,
    nothing, for blocks that begin with a normalisation.
    """

    width: int
    kernel_size: int
    stride: int
    pool_stride: int = 1
    norm: Norm = "batch"

    def __post_init__(self) -> None:
        require_whole("width", self.width, 1)
        require_whole("stride", self.stride, 1)
        require_whole("kernel_size", self.kernel_size, 1)
        if self.kernel_size != self.stride:
            require_odd("kernel_size", self.kernel_size)
        require_whole("pool_stride", self.pool_stride, 1)
        require_choice("norm", self.norm, NORMS)


@dataclass(frozen=True, slots=True)
class ArchitectureSpec:
    """A convolutional network: stem, stages, an optional 1×1 head convolution, pooling, classifier.

    A stride s turns a map of size n into one of size ⌈n/s⌉. Convolutions are followed by batch normalisation, which
    adds `norm_epsilon` to the variance, unless their kind of block says otherwise. `padding` matters at strides above
    1: `symmetric` pads k // 2 on each side (PyTorch), `same` as little as needed, and more at the end (TensorFlow).
    `head_width` 0 means that the pooling follows the last stage. `final_norm` normalises what is left: `batch` (with
    the activation) before the pooling, `layer` behind it. `hidden_width` above 0 is a fully connected layer with the
    activation before the classifier, which is never scaled.
    `module` names a flax module of the user's own, "module:Class", that is built instead (`baselines.protocol`).
    """

    resolution: int
    in_channels: int
    num_classes: int
    stem: StemSpec
    stages: tuple[StageSpec, ...]
    head_width: int
    activation: Activation = "swish"
    final_norm: Norm = "none"
    hidden_width: int = 0
    module: str = ""
    norm_epsilon: float = NORM_EPSILON
    padding: Padding = "symmetric"

    def __post_init__(self) -> None:
        for name in ("resolution", "in_channels", "num_classes"):
            require_whole(name, getattr(self, name), 1)
        if not self.stages:
            raise ValueError("`stages` must hold at least one stage, but got none")
        if len(self.stages) > _MOST_STAGES:
            raise InputError(f"`stages` must hold at most {_MOST_STAGES} stages, but got {len(self.stages):,}")
        require_whole("head_width", self.head_width, 0)
        require_choice("activation", self.activation, ACTIVATIONS)
        require_choice("final_norm", self.final_norm, NORMS)
        require_whole("hidden_width", self.hidden_width, 0)
        if not 1e-9 <= self.norm_epsilon <= 1:
            raise ValueError(f"`norm_epsilon` must be a number from 1e-9 to 1, but got {self.norm_epsilon!r}")
        require_choice("padding", self.padding, PADDINGS)
        if self.padding == "same" and self.stem.pool_stride > 1:
            raise ValueError("`padding` must be symmetric in a network whose stem has a pool, but got 'same'")

        self._check_weights()

    def _check_weights(self) -> None:
        """Raises `InputError` for a layer whose weights cannot be counted in 64 bits."""
        weights: float = self.stem.kernel_size**2 * self.in_channels * self.stem.width
        width_in = self.stem.width
        for stage in self.stages:
            widest = max(width_in, stage.width) * stage.expand_ratio
            weights, width_in = max(weights, stage.kernel_size**2 * widest**2), stage.width
        if weights > _MOST_WEIGHTS:
            raise InputError(
                f"`width`, `kernel_size` and `expand_ratio` must give a layer at most {_MOST_WEIGHTS:.2g} weights, but "
                f"got up to {weights:.2g}"
            )

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
        """The JSON object of the contract; keys that have a default appear if they differ from it, except in stages."""
        stages = [dataclasses.asdict(stage) for stage in self.stages]
        return {**without_defaults(self), "stem": without_defaults(self.stem), "stages": stages}


def without_defaults(value: DataclassInstance) -> dict[str, Any]:
    """The fields of a dataclass that have no default or differ from it, as a dict."""
    return {
        field.name: getattr(value, field.name)
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    }
