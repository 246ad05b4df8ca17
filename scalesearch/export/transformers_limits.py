"""What transformers' EfficientNet and ResNet can be, and how its rounding of widths gives the exact ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from scalesearch.export.blocks import blocks_of
from scalesearch.export.torch_layers import RESIDUAL, check_kinds, refuse
from scalesearch.scaling.architecture import ArchitectureSpec

_KINDS = ("mbconv", "basic", "bottleneck")
_STEM, _HEAD = 32, 1280  # what is rounded to the widths of stem and head
_DIVISORS = (1, 2, 4, 8, 16)
_ACTIVATIONS = ("swish", "relu", "relu6", "gelu")


class WidthRounding(NamedTuple):
    """`width_coefficient` and `depth_divisor` of a configuration, and what is rounded to each width of a stage."""

    coefficient: float
    divisor: int
    unrounded: Mapping[int, int]


def check(spec: ArchitectureSpec) -> None:
    """Raises `InputError` for a network that transformers does not have."""
    found = check_kinds(spec, "transformers", _KINDS)
    stem, name = spec.stem, "transformers"
    if found & RESIDUAL:
        if (stem.kernel_size, stem.stride, stem.pool_stride) != (7, 2, 2):
            refuse(name, "the stem of its ResNet is 7×7 with stride 2, and a pool with stride 2")
        if spec.stages[0].stride > 2 or any(stage.stride != 2 for stage in spec.stages[1:]):
            refuse(name, "the strides of its ResNet are 1 or 2 in the first stage and 2 in the others")
        if "bottleneck" in found and spec.stages[0].expand_ratio != 4:
            refuse(name, "the inner width of its bottlenecks is a quarter of the width")
        if spec.activation != "relu":
            refuse(name, f"the activation of its ResNet is relu, but `activation` is {spec.activation}")
        return
    if (stem.kernel_size, stem.stride) != (3, 2):
        refuse(
            name,
            f"the stem of its EfficientNet is 3×3 with stride 2, but `stem` has a kernel of {stem.kernel_size} and "
            f"stride {stem.stride}",
        )
    if spec.activation not in _ACTIVATIONS:
        refuse(name, f"its EfficientNet has no activation {spec.activation}")
    for number, stage in enumerate(blocks_of(spec)):
        fields, first = spec.stages[number], stage[0]
        if not first.squeezed:
            refuse(name, f"its blocks always have squeeze-excite, but `stages.{number}` has none")
        if fields.se_ratio != spec.stages[0].se_ratio:
            refuse(name, "the squeeze-excite of its blocks has one ratio in all stages")
        if fields.expand_ratio != int(fields.expand_ratio):
            refuse(name, f"its expand ratios are whole numbers, but that of `stages.{number}` is {fields.expand_ratio}")
        if first.stride > 2:
            refuse(name, f"its strides are 1 or 2, but that of `stages.{number}` is {first.stride}")
        if first.same_shape:
            refuse(
                name,
                f"the first block of a stage never adds its input, but in `stages.{number}` it keeps the shape "
                f"({first.width} channels, stride 1)",
            )
    if not spec.head_width:
        refuse(name, "its EfficientNet has a head, but `head_width` is 0")
    rounding_of(spec)


def rounding_of(spec: ArchitectureSpec) -> WidthRounding:
    """The rounding that gives the widths of `spec`.

    Transformers multiplies each width by the coefficient and rounds it to the divisor, that of the stem from 32 and
    that of the head from 1280. Raises `InputError` if no coefficient gives the widths of `spec`.
    """
    for divisor in _DIVISORS:
        # What rounds to a multiple of the divisor lies within half of it.
        ends = [[(width + side * divisor / 2) / of for side in (-1, 1)] for width, of in _ends(spec)]
        low, high = max(end[0] for end in ends), min(end[1] for end in ends)
        for coefficient in (1.0, round((low + high) / 2, 6)):
            if (found := _rounding_with(spec, coefficient, divisor)) is not None:
                return found
    return refuse(
        "transformers",
        f"its EfficientNet rounds the widths of stem and head from {_STEM} and {_HEAD} by one coefficient, and none "
        f"gives {spec.stem.width} and {spec.head_width}",
    )


def _rounding_with(spec: ArchitectureSpec, coefficient: float, divisor: int) -> WidthRounding | None:
    """The rounding with these numbers, if it gives the widths."""
    if any(_rounded(of, coefficient, divisor) != width for width, of in _ends(spec)):
        return None
    widths = {spec.stem.width, *(stage.width for stage in spec.stages)}
    unrounded = {width: _unrounded(width, coefficient, divisor) for width in widths}
    found = {width: value for width, value in unrounded.items() if value is not None}
    return WidthRounding(coefficient, divisor, found) if len(found) == len(widths) else None


def _ends(spec: ArchitectureSpec) -> tuple[tuple[int, int], tuple[int, int]]:
    return (spec.stem.width, _STEM), (spec.head_width, _HEAD)


def _rounded(width: int, coefficient: float, divisor: int) -> int:
    """Transformers' `round_filters`."""
    scaled = width * coefficient
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return int(rounded + divisor if rounded < 0.9 * scaled else rounded)


def _unrounded(width: int, coefficient: float, divisor: int) -> int | None:
    """A whole number that is rounded to `width`, if there is one."""
    near = round(width / coefficient)
    around = sorted(range(max(1, near - divisor), near + divisor + 1), key=lambda value: abs(value - near))
    return next((value for value in around if _rounded(value, coefficient, divisor) == width), None)
