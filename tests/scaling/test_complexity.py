"""The exact counter against published numbers and against a plain count of every layer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.baselines.published import NAMES, baseline
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import round_width, scale
from scalesearch.scaling.cost.count import Complexity, areas, complexity, count, tabulate
from scalesearch.scaling.stage import StageSpec, kinds, make_stage

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "efficientnet.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("member", GOLDEN["family"], ids=lambda member: member["name"])
def test_efficientnet_family_to_the_last_parameter(member: dict[str, Any]) -> None:
    own = baseline("efficientnet-b0")
    width_and_depth = scale(own.spec, Coefficients(member["depth"], member["width"], 1), own.rounding)
    cost = complexity(dataclasses.replace(width_and_depth, resolution=member["resolution"]))
    assert cost.params == member["params"]
    assert f"{cost.macs / 1e6:.1f}" == f"{member['macs_M']:.1f}"


# torchvision's model metadata (ResNet); arXiv:1704.04861 and arXiv:1801.04381 as released (MobileNet).
PUBLISHED_PARAMS = {
    "efficientnet-b0": 5_288_548,
    "mobilenet-v1": 4_231_976,
    "mobilenet-v2": 3_504_872,
    "resnet-18": 11_689_512,
    "resnet-34": 21_797_672,
    "resnet-50": 25_557_032,
    "resnet-101": 44_549_160,
    "resnet-152": 60_192_808,
}


@pytest.mark.parametrize(("name", "params"), PUBLISHED_PARAMS.items())
def test_published_parameters(name: str, params: int) -> None:
    assert complexity(baseline(name).spec).params == params


def test_published_macs() -> None:
    # torchvision prints GFLOPS (multiply-adds) of 1.814 and 4.089 for ResNet-18 and -50, MobileNetV1's paper 569 M,
    # MobileNetV2's paper 300 M; each to the digits printed.
    macs = {name: complexity(baseline(name).spec).macs for name in NAMES}
    assert f"{macs['resnet-18'] / 1e9:.3f}" == "1.814"
    assert f"{macs['resnet-50'] / 1e9:.3f}" == "4.089"
    assert f"{macs['mobilenet-v1'] / 1e6:.0f}" == "569"
    assert f"{macs['mobilenet-v2'] / 1e6:.0f}" == "301"


PUBLISHED = json.loads((Path(__file__).parents[1] / "golden" / "baselines.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("model", PUBLISHED["models"], ids=lambda model: model["source"].partition(" (")[0])
def test_counts_are_those_of_the_published_models(model: dict[str, Any]) -> None:
    own = baseline(model["baseline"])
    scaled = scale(own.spec, Coefficients(model.get("depth", 1), model.get("width", 1), 1), own.rounding)
    cost = complexity(dataclasses.replace(scaled, resolution=model["resolution"]))
    assert dataclasses.asdict(cost) == {key: model[key] for key in ("macs", "params", "activations")}


def test_every_baseline_has_a_published_count() -> None:
    counted = {model["baseline"] for model in PUBLISHED["models"]}
    assert set(NAMES) == counted | PUBLISHED_PARAMS.keys()


class PlainCount:
    """Counts a network layer by layer, each convolution by counting what one output position needs."""

    def __init__(self) -> None:
        self.macs = self.params = self.activations = 0

    def conv(self, size: int, kernel: int, stride: int, width_in: int, width: int, groups: int = 1) -> int:
        """A SAME convolution without bias and the normalisation behind it; returns the output size."""
        size = len(range(0, size, stride))
        weights = kernel * kernel * (width_in // groups) * width
        self.macs += size * size * weights
        self.params += weights + width + width
        self.activations += size * size * width
        return size

    def biased(self, width_in: int, width: int) -> None:
        """A fully connected layer on the pooled vector."""
        self.macs += width_in * width
        self.params += width_in * width + width
        self.activations += width

    def bare(self, size: int, kernel: int, stride: int, width_in: int, width: int, bias: int = 0) -> int:
        """A SAME convolution, with a bias or without, and nothing behind it."""
        self.params += (bias - 2) * width
        return self.conv(size, kernel, stride, width_in, width)

    @staticmethod
    def inner(width: int, ratio: float) -> int:
        return round(width * ratio) if ratio % 1 == 0 else round_width(width * ratio, 8)

    def squeeze_excite(self, width: int, squeezed: int) -> None:
        self.biased(width, squeezed)
        self.biased(squeezed, width)

    def mbconv(self, size: int, stage: StageSpec, stride: int, width_in: int) -> int:
        inner = self.inner(width_in, stage.expand_ratio)
        if stage.expand_ratio != 1:
            self.conv(size, 1, 1, width_in, inner)
        size = self.conv(size, stage.kernel_size, stride, inner, inner, groups=inner)
        if stage.se_ratio > 0:
            of_inner = round_width(stage.se_ratio * inner, 8)
            self.squeeze_excite(inner, of_inner if stage.block == "bneck" else max(1, int(stage.se_ratio * width_in)))
        return self.conv(size, 1, 1, inner, stage.width)

    bneck = mbconv

    def fused_mbconv(self, size: int, stage: StageSpec, stride: int, width_in: int) -> int:
        if stage.expand_ratio == 1:
            return self.conv(size, stage.kernel_size, stride, width_in, stage.width)
        inner = self.inner(width_in, stage.expand_ratio)
        size = self.conv(size, stage.kernel_size, stride, width_in, inner)
        return self.conv(size, 1, 1, inner, stage.width)

    def convnext(self, size: int, stage: StageSpec, stride: int, width_in: int) -> int:
        if stride > 1 or width_in != stage.width:
            self.params += 2 * width_in
            size = self.bare(size, stride, stride, width_in, stage.width, bias=1)
        inner = self.inner(stage.width, stage.expand_ratio)
        self.conv(size, stage.kernel_size, 1, stage.width, stage.width, groups=stage.width)
        self.params += stage.width + stage.width  # the bias in front of the normalisation, the layer scale
        self.bare(size, 1, 1, stage.width, inner, bias=1)
        return self.bare(size, 1, 1, inner, stage.width, bias=1)

    def preactivation(self, size: int, stage: StageSpec, stride: int, width_in: int) -> int:
        if stride > 1 or width_in != stage.width:
            self.bare(size, 1, stride, width_in, stage.width)
        self.params += 2 * width_in
        size = self.conv(size, stage.kernel_size, stride, width_in, stage.width)
        return self.bare(size, stage.kernel_size, 1, stage.width, stage.width)

    def grouped_bottleneck(self, size: int, stage: Any, stride: int, width_in: int) -> int:
        if stride > 1 or width_in != stage.width:
            self.conv(size, 1, stride, width_in, stage.width)
        inner = stage.width // stage.expand_ratio
        self.conv(size, 1, 1, width_in, inner)
        size = self.conv(size, stage.kernel_size, stride, inner, inner, groups=inner // stage.group_width)
        if stage.se_ratio:
            self.squeeze_excite(inner, max(1, round(stage.se_ratio * width_in)))
        return self.conv(size, 1, 1, inner, stage.width)

    def separable(self, size: int, stage: StageSpec, stride: int, width_in: int) -> int:
        size = self.conv(size, stage.kernel_size, stride, width_in, width_in, groups=width_in)
        return self.conv(size, 1, 1, width_in, stage.width)

    def basic(self, size: int, stage: StageSpec, stride: int, width_in: int) -> int:
        if stride > 1 or width_in != stage.width:
            self.conv(size, 1, stride, width_in, stage.width)
        size = self.conv(size, stage.kernel_size, stride, width_in, stage.width)
        return self.conv(size, stage.kernel_size, 1, stage.width, stage.width)

    def bottleneck(self, size: int, stage: StageSpec, stride: int, width_in: int) -> int:
        if stride > 1 or width_in != stage.width:
            self.conv(size, 1, stride, width_in, stage.width)
        inner = stage.width // stage.expand_ratio
        self.conv(size, 1, 1, width_in, inner)
        size = self.conv(size, stage.kernel_size, stride, inner, inner)
        return self.conv(size, 1, 1, inner, stage.width)

    def network(self, spec: ArchitectureSpec) -> Complexity:
        size = self.conv(spec.resolution, spec.stem.kernel_size, spec.stem.stride, spec.in_channels, spec.stem.width)
        self.params += {"batch": 0, "layer": 1, "none": -2}[spec.stem.norm] * spec.stem.width
        size = len(range(0, size, spec.stem.pool_stride))
        width = spec.stem.width
        for stage in spec.stages:
            for repeat in range(stage.depth):
                size = getattr(self, stage.block)(size, stage, stage.stride if repeat == 0 else 1, width)
                width = stage.width
        if spec.head_width:
            self.conv(size, 1, 1, width, spec.head_width)
            width = spec.head_width
        self.params += 2 * width * (spec.final_norm != "none")
        if spec.hidden_width:
            self.biased(width, spec.hidden_width)
            width = spec.hidden_width
        self.biased(width, spec.num_classes)
        return Complexity(self.macs, self.params, self.activations)


@st.composite
def stages(draw: st.DrawFn) -> StageSpec:
    block = draw(st.sampled_from(list(kinds())))
    whole, fractions = st.integers(1, 6), st.sampled_from([1.5, 2.3, 3.67])
    expand: float = 1
    if block in ("bottleneck", "grouped_bottleneck"):
        expand = draw(whole)
    elif block in ("mbconv", "bneck", "fused_mbconv", "convnext"):
        expand = draw(whole | fractions)
    fields = {"group_width": draw(st.integers(1, 4))} if block == "grouped_bottleneck" else {}
    multiple = fields.get("group_width", 1) * (expand if block.endswith("bottleneck") else 1)
    return make_stage(
        block=block,
        kernel_size=draw(st.sampled_from([1, 3, 5, 7])),
        stride=draw(st.integers(1, 3)),
        expand_ratio=expand,
        width=draw(st.integers(1, 12)) * multiple,
        depth=draw(st.integers(1, 4)),
        se_ratio=draw(st.sampled_from([0.0, 0.05, 0.25, 1.0])) if block in SQUEEZED else 0.0,
        **fields,
    )


SQUEEZED = ("mbconv", "bneck", "grouped_bottleneck")


def specs() -> st.SearchStrategy[ArchitectureSpec]:
    sizes = st.tuples(st.sampled_from([1, 3, 5, 7]), st.integers(1, 3)) | st.sampled_from([(2, 2), (4, 4)])
    norms = st.sampled_from(["batch", "layer", "none"])
    stems = st.builds(
        lambda width, size, pool, norm: StemSpec(width, *size, pool, norm),
        st.integers(1, 12),
        sizes,
        st.integers(1, 3),
        norms,
    )
    return st.builds(
        ArchitectureSpec,
        resolution=st.integers(1, 65),
        in_channels=st.integers(1, 4),
        num_classes=st.integers(1, 12),
        stem=stems,
        stages=st.lists(stages(), min_size=1, max_size=5).map(tuple),
        head_width=st.integers(0, 20),
        activation=st.sampled_from(["swish", "relu", "relu6", "hard_swish", "gelu"]),
        final_norm=norms,
        hidden_width=st.integers(0, 9),
    )


@given(specs())
def test_counts_are_those_of_a_plain_count(spec: ArchitectureSpec) -> None:
    assert complexity(spec) == PlainCount().network(spec)


@pytest.mark.parametrize("name", NAMES)
def test_baselines_count_as_a_plain_count(name: str) -> None:
    spec = dataclasses.replace(baseline(name).spec, resolution=201)
    assert complexity(spec) == PlainCount().network(spec)


@given(specs(), st.data())
def test_one_product_counts_every_combination(spec: ArchitectureSpec, data: st.DataObject) -> None:
    def grown(widths: tuple[int, ...], factor: int) -> tuple[int, ...]:
        return tuple(width * factor for width in widths)

    depths = [spec.depths, *data.draw(st.lists(st.tuples(*[st.integers(1, 5)] * len(spec.stages)), max_size=2))]
    widths = [spec.widths, grown(spec.widths, 2), grown(spec.widths, 3)]
    resolutions = [spec.resolution, spec.resolution + 1]
    tables = tabulate(spec, np.array(widths, np.int64))
    area = areas(spec, np.array(resolutions, np.int64))
    one = np.ones((1, 1), np.int64)
    depth_rows = np.array(depths, np.int64)
    macs = count(tables.macs, depth_rows, area)
    params = count(tables.params, depth_rows, one)
    activations = count(tables.activations, depth_rows, area)
    for d, depth in enumerate(depths):
        for w, width in enumerate(widths):
            for r, resolution in enumerate(resolutions):
                expected = PlainCount().network(spec.with_sizes(depth, width, resolution))
                assert Complexity(macs[d, w, r], params[d, w, 0], activations[d, w, r]) == expected


def test_counts_stay_exact_beyond_float32() -> None:
    """B7 at 1200 px costs 1.5e11 macs: a sum in single precision would be off by thousands."""
    own = baseline("efficientnet-b0")
    spec = dataclasses.replace(scale(own.spec, Coefficients(3.1, 2.0, 1), own.rounding), resolution=1201)
    assert complexity(spec) == PlainCount().network(spec)
