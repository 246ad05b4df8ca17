"""Published baselines, each with its rounding.

The roundings of EfficientNet and MobileNetV2 are their authors'. The others also scale widths in eights.
"""

from __future__ import annotations

from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.compound import Baseline, Rounding
from scalesearch.scaling.stage import StageSpec, make_stage


def _stages(rows: str) -> tuple[StageSpec, ...]:
    """Stages of a table whose columns are block, kernel size, stride, expand ratio, width, depth, se ratio."""
    stages: list[StageSpec] = []
    for row in rows.strip().splitlines():
        block, kernel, stride, expand, width, depth, se_ratio = row.split()
        stages.append(
            make_stage(
                block,
                kernel_size=int(kernel),
                stride=int(stride),
                expand_ratio=int(expand),
                width=int(width),
                depth=int(depth),
                se_ratio=float(se_ratio),
            )
        )
    return tuple(stages)


def _efficientnet_b0() -> Baseline:
    """EfficientNet-B0, arXiv:1905.11946 Table 1."""
    stages = _stages("""
        mbconv 3 1 1  16 1 0.25
        mbconv 3 2 6  24 2 0.25
        mbconv 5 2 6  40 2 0.25
        mbconv 3 2 6  80 3 0.25
        mbconv 5 1 6 112 3 0.25
        mbconv 5 2 6 192 4 0.25
        mbconv 3 1 6 320 1 0.25
    """)
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(32, 3, 2), stages, 1280, "swish")
    return Baseline("efficientnet-b0", spec, Rounding(8, "ceil", 1, "scaled", "scaled"))


def _mobilenet_v1() -> Baseline:
    """MobileNetV1, arXiv:1704.04861 Table 1; there is no convolution between the last block and the pool."""
    stages = _stages("""
        separable 3 1 1   64 1 0
        separable 3 2 1  128 2 0
        separable 3 2 1  256 2 0
        separable 3 2 1  512 6 0
        separable 3 2 1 1024 2 0
    """)
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(32, 3, 2), stages, 0, "relu")
    return Baseline("mobilenet-v1", spec, Rounding(8, "ceil", 1, "scaled", "fixed"))


def _mobilenet_v2() -> Baseline:
    """MobileNetV2, arXiv:1801.04381 Table 2; the head keeps 1280 up to width 1 (§6.1)."""
    stages = _stages("""
        mbconv 3 1 1  16 1 0
        mbconv 3 2 6  24 2 0
        mbconv 3 2 6  32 3 0
        mbconv 3 2 6  64 4 0
        mbconv 3 1 6  96 3 0
        mbconv 3 2 6 160 3 0
        mbconv 3 1 6 320 1 0
    """)
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(32, 3, 2), stages, 1280, "relu6")
    return Baseline("mobilenet-v2", spec, Rounding(8, "ceil", 1, "scaled", "grows"))


_RESNET_DEPTHS = {
    "resnet-18": ("basic", (2, 2, 2, 2)),
    "resnet-34": ("basic", (3, 4, 6, 3)),
    "resnet-50": ("bottleneck", (3, 4, 6, 3)),
    "resnet-101": ("bottleneck", (3, 4, 23, 3)),
    "resnet-152": ("bottleneck", (3, 8, 36, 3)),
    "resnet-200": ("bottleneck", (3, 24, 36, 3)),
}


def _resnet(name: str) -> Baseline:
    """ResNet as in torchvision: arXiv:1512.03385 Table 1 with the stride in the 3×3 (200: arXiv:1603.05027)."""
    block, depths = _RESNET_DEPTHS[name]
    expansion = 4 if block == "bottleneck" else 1
    rows = (
        f"{block} 3 {1 if index == 0 else 2} {expansion} {64 * 2**index * expansion} {depth} 0"
        for index, depth in enumerate(depths)
    )
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(64, 7, 2, pool_stride=2), _stages("\n".join(rows)), 0, "relu")
    return Baseline(name, spec, Rounding(8 * expansion, "round", 1, "scaled", "fixed"))


NAMES: tuple[str, ...] = ("efficientnet-b0", "mobilenet-v1", "mobilenet-v2", *_RESNET_DEPTHS)


def baseline(name: str) -> Baseline:
    """The published baseline called `name`. Raises `ValueError` naming all that exist."""
    if name == "efficientnet-b0":
        return _efficientnet_b0()
    if name == "mobilenet-v1":
        return _mobilenet_v1()
    if name == "mobilenet-v2":
        return _mobilenet_v2()
    if name in _RESNET_DEPTHS:
        return _resnet(name)
    raise ValueError(f"`baseline` must be one of {', '.join(NAMES)}, but got {name!r}")
