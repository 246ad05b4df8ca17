"""Published baselines, each with its rounding.

The roundings of EfficientNet, EfficientNet-Lite, EfficientNetV2, MobileNetV2 and MobileNetV3 are their authors'. The
others also scale widths in eights, or in whole groups.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.compound import Baseline, Rounding
from scalesearch.scaling.stage import StageSpec, make_stage


def _stages(rows: str, **fields: Any) -> tuple[StageSpec, ...]:
    """Stages of a table whose columns are block, kernel size, stride, expand ratio, width, depth, se ratio.

    An eighth column is the activation; `fields` are further ones, of all stages.
    """
    stages: list[StageSpec] = []
    for row in rows.strip().splitlines():
        block, kernel, stride, expand, width, depth, se_ratio, *activation = row.split()
        stages.append(
            make_stage(
                block,
                kernel_size=int(kernel),
                stride=int(stride),
                expand_ratio=float(expand) if "." in expand else int(expand),
                width=int(width),
                depth=int(depth),
                se_ratio=float(se_ratio),
                **fields | ({"activation": activation[0]} if activation else {}),
            )
        )
    return tuple(stages)


_B0 = """
    mbconv 3 1 1  16 1 {se}
    mbconv 3 2 6  24 2 {se}
    mbconv 5 2 6  40 2 {se}
    mbconv 3 2 6  80 3 {se}
    mbconv 5 1 6 112 3 {se}
    mbconv 5 2 6 192 4 {se}
    mbconv 3 1 6 320 1 {se}
"""


def _efficientnet_b0() -> Baseline:
    """EfficientNet-B0, arXiv:1905.11946 Table 1."""
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(32, 3, 2), _stages(_B0.format(se=0.25)), 1280, "swish")
    return Baseline("efficientnet-b0", spec, Rounding(8, "ceil", 1, "scaled", "scaled"))


def _efficientnet_lite0() -> Baseline:
    """EfficientNet-Lite0: B0 without squeeze-excite; stem, head and the ends' depths stay (tensorflow/tpu lite/)."""
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(32, 3, 2), _stages(_B0.format(se=0)), 1280, "relu6")
    return Baseline("efficientnet-lite0", spec, Rounding(8, "ceil", 1, "fixed", "fixed", first_last_depth="fixed"))


def _efficientnet_v2_s() -> Baseline:
    """EfficientNetV2-S, arXiv:2104.00298 Table 4 as released (24 channels in the stem, a head of 1280)."""
    stages = _stages("""
        fused_mbconv 3 1 1  24  2 0
        fused_mbconv 3 2 4  48  4 0
        fused_mbconv 3 2 4  64  4 0
        mbconv       3 2 4 128  6 0.25
        mbconv       3 1 6 160  9 0.25
        mbconv       3 2 6 256 15 0.25
    """)
    spec = ArchitectureSpec(384, 3, 1000, StemSpec(24, 3, 2), stages, 1280, "swish")
    return Baseline("efficientnet-v2-s", spec, Rounding(8, "ceil", 1, "scaled", "scaled"))


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


def _mobilenet_v3_large() -> Baseline:
    """MobileNetV3-Large, arXiv:1905.02244 Table 1. Like the released model, the last hidden layer is not scaled."""
    stages = _stages("""
        bneck 3 1 1    16 1 0    relu
        bneck 3 2 4    24 1 0    relu
        bneck 3 1 3    24 1 0    relu
        bneck 5 2 3    40 3 0.25 relu
        bneck 3 2 6    80 1 0    hard_swish
        bneck 3 1 2.5  80 1 0    hard_swish
        bneck 3 1 2.3  80 2 0    hard_swish
        bneck 3 1 6   112 2 0.25 hard_swish
        bneck 5 2 6   160 3 0.25 hard_swish
    """)
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(16, 3, 2), stages, 960, "hard_swish", hidden_width=1280)
    return Baseline("mobilenet-v3-large", spec, Rounding(8, "ceil", 1, "scaled", "scaled"))


def _mobilenet_v3_small() -> Baseline:
    """MobileNetV3-Small, arXiv:1905.02244 Table 2."""
    stages = _stages("""
        bneck 3 2 1    16 1 0.25 relu
        bneck 3 2 4.5  24 1 0    relu
        bneck 3 1 3.67 24 1 0    relu
        bneck 5 2 4    40 1 0.25 hard_swish
        bneck 5 1 6    40 2 0.25 hard_swish
        bneck 5 1 3    48 2 0.25 hard_swish
        bneck 5 2 6    96 3 0.25 hard_swish
    """)
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(16, 3, 2), stages, 576, "hard_swish", hidden_width=1024)
    return Baseline("mobilenet-v3-small", spec, Rounding(8, "ceil", 1, "scaled", "scaled"))


def _convnext_t() -> Baseline:
    """ConvNeXt-T, arXiv:2201.03545 §2 and appendix A.1."""
    stages = _stages("""
        convnext 7 1 4  96 3 0
        convnext 7 2 4 192 3 0
        convnext 7 2 4 384 9 0
        convnext 7 2 4 768 3 0
    """)
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(96, 4, 4, norm="layer"), stages, 0, "gelu", final_norm="layer")
    return Baseline("convnext-t", spec, Rounding(8, "round", 1, "scaled", "fixed"))


def _wide_resnet_28_10() -> Baseline:
    """Wide-ResNet-28-10 for CIFAR-10, arXiv:1605.07146 Table 1; its stem is not widened."""
    stages = _stages("""
        preactivation 3 1 1 160 4 0
        preactivation 3 2 1 320 4 0
        preactivation 3 2 1 640 4 0
    """)
    spec = ArchitectureSpec(32, 3, 10, StemSpec(16, 3, 1, norm="none"), stages, 0, "relu", final_norm="batch")
    return Baseline("wide-resnet-28-10", spec, Rounding(8, "round", 1, "fixed", "fixed"))


# Group width, stage widths, depths, se ratio: arXiv:2003.13678 Tables 9 and 10 as released in pycls.
_REGNETS = {
    "regnet-x-400mf": (16, (32, 64, 160, 384), (1, 2, 7, 12), 0),
    "regnet-y-400mf": (8, (48, 104, 208, 440), (1, 3, 6, 6), 0.25),
}


def _regnet(name: str) -> Baseline:
    """RegNet with bottleneck ratio 1, as released in pycls; widths are scaled in whole groups."""
    group_width, widths, depths, se_ratio = _REGNETS[name]
    rows = (f"grouped_bottleneck 3 2 1 {width} {depth} {se_ratio}" for width, depth in zip(widths, depths, strict=True))
    stages = _stages("\n".join(rows), group_width=group_width)
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(32, 3, 2), stages, 0, "relu")
    return Baseline(name, spec, Rounding(group_width, "round", 1, "scaled", "fixed"))


_RESNET_DEPTHS = {
    "resnet-18": ("basic", (2, 2, 2, 2)),
    "resnet-34": ("basic", (3, 4, 6, 3)),
    "resnet-50": ("bottleneck", (3, 4, 6, 3)),
    "resnet-101": ("bottleneck", (3, 4, 23, 3)),
    "resnet-152": ("bottleneck", (3, 8, 36, 3)),
    "resnet-200": ("bottleneck", (3, 24, 36, 3)),
    "wide-resnet-50-2": ("bottleneck", (3, 4, 6, 3)),
}


def _resnet(name: str) -> Baseline:
    """ResNet as in torchvision: arXiv:1512.03385 Table 1 with the stride in the 3×3 (200: arXiv:1603.05027).

    The wide one has twice the inner width (arXiv:1605.07146 Table 8).
    """
    block, depths = _RESNET_DEPTHS[name]
    widest = 4 if block == "bottleneck" else 1
    expansion = widest // 2 if name.startswith("wide") else widest
    rows = (
        f"{block} 3 {1 if index == 0 else 2} {expansion} {64 * 2**index * widest} {depth} 0"
        for index, depth in enumerate(depths)
    )
    spec = ArchitectureSpec(224, 3, 1000, StemSpec(64, 7, 2, pool_stride=2), _stages("\n".join(rows)), 0, "relu")
    return Baseline(name, spec, Rounding(8 * expansion, "round", 1, "scaled", "fixed"))


_BASELINES: dict[str, Callable[[], Baseline]] = {
    "efficientnet-b0": _efficientnet_b0,
    "efficientnet-lite0": _efficientnet_lite0,
    "efficientnet-v2-s": _efficientnet_v2_s,
    "mobilenet-v1": _mobilenet_v1,
    "mobilenet-v2": _mobilenet_v2,
    "mobilenet-v3-large": _mobilenet_v3_large,
    "mobilenet-v3-small": _mobilenet_v3_small,
    **{name: partial(_resnet, name) for name in _RESNET_DEPTHS},
    "wide-resnet-28-10": _wide_resnet_28_10,
    **{name: partial(_regnet, name) for name in _REGNETS},
    "convnext-t": _convnext_t,
}

NAMES: tuple[str, ...] = tuple(_BASELINES)


def baseline(name: str) -> Baseline:
    """The published baseline called `name`. Raises `ValueError` naming all that exist."""
    if name not in _BASELINES:
        raise ValueError(f"`baseline` must be one of {', '.join(NAMES)}, but got {name!r}")
    return _BASELINES[name]()
