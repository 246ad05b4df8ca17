"""A network as pure data: `ArchitectureSpec`, its parts, and their JSON form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from scalesearch.scaling.stage import StageSpec, kinds, make_stage, require_choice, require_odd, require_whole

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
        require_whole("stem.width", self.width, 1)
        require_odd("stem.kernel_size", self.kernel_size)
        require_whole("stem.stride", self.stride, 1)
        require_whole("stem.pool_stride", self.pool_stride, 1)


@dataclass(frozen=True, slots=True)
class ArchitectureSpec:
    """A convolutional network: stem, stages, an optional 1×1 head convolution, pooling, classifier.

    Every convolution is followed by batch normalisation and has SAME padding, so a map of size n
    leaves a stride s with size ⌈n/s⌉. `head_width` 0 means that the classifier follows the last stage.
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
        """The same network with other `depths` (one a stage), `widths` (as in `widths`) and resolution."""
        stages = tuple(
            dataclasses.replace(stage, depth=depth, width=width)
            for stage, depth, width in zip(self.stages, depths, widths[1:-1], strict=True)
        )
        stem = dataclasses.replace(self.stem, width=widths[0])
        return dataclasses.replace(self, resolution=resolution, stem=stem, stages=stages, head_width=widths[-1])

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the contract; `activation` and `stem.pool_stride` appear when not the default."""
        document = dataclasses.asdict(self)
        document["stages"] = [dataclasses.asdict(stage) for stage in self.stages]
        if self.activation == "swish":
            del document["activation"]
        if self.stem.pool_stride == 1:
            del document["stem"]["pool_stride"]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The spec of a JSON object. Raises `ValueError` naming the key for a missing, unknown or wrong one."""
        values = dict(_checked(cls, document, "spec"))
        values["stem"] = StemSpec(**_checked(StemSpec, values["stem"], "stem"))
        stages = values["stages"]
        if not isinstance(stages, (list, tuple)):
            raise ValueError(f"`stages` must be a list, but got {stages!r}")
        parsed: list[StageSpec] = []
        for index, stage in enumerate(stages):
            where = f"stages[{index}]"
            try:
                fields = dict(_mapping(stage, where))
                kind = kinds().get(str(fields.get("block")), StageSpec)  # an unknown kind is refused by `make_stage`
                parsed.append(make_stage(**_checked(kind, fields, where)))
            except ValueError as error:
                raise ValueError(str(error) if where in str(error) else f"{where}: {error}") from error
        values["stages"] = tuple(parsed)
        return cls(**values)


def _mapping(document: object, where: str) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise ValueError(f"`{where}` must be an object, but got {document!r}")
    return document


def _checked(kind: type, document: object, where: str) -> Mapping[str, Any]:
    document = _mapping(document, where)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = [str(key) for key in document if key not in fields]
    if unknown:
        raise ValueError(f"`{where}` has the unknown key `{unknown[0]}`; allowed: {', '.join(fields)}")
    for name, field in fields.items():
        if name not in document and field.default is dataclasses.MISSING:
            raise ValueError(f"`{where}` lacks the key `{name}`")
    return document
