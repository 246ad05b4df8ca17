"""Specs are checked at construction and have the JSON of the contract."""

from __future__ import annotations

from typing import Any

import pytest

from scalesearch.baselines.published import NAMES, baseline
from scalesearch.scaling.architecture import StemSpec
from scalesearch.scaling.stage import make_stage


def test_json_has_the_shape_of_the_contract() -> None:
    document = baseline("efficientnet-b0").spec.to_json()
    assert list(document) == ["resolution", "in_channels", "num_classes", "stem", "stages", "head_width"]
    assert document["stem"] == {"width": 32, "kernel_size": 3, "stride": 2}
    assert document["stages"][0] == {
        "block": "mbconv",
        "kernel_size": 3,
        "stride": 1,
        "expand_ratio": 1,
        "width": 16,
        "depth": 1,
        "se_ratio": 0.25,
    }
    assert baseline("resnet-18").spec.to_json()["stem"]["pool_stride"] == 2
    assert baseline("resnet-18").spec.to_json()["activation"] == "relu"
    convnext, large = baseline("convnext-t").spec.to_json(), baseline("mobilenet-v3-large").spec.to_json()
    assert convnext["stem"] == {"width": 96, "kernel_size": 4, "stride": 4, "norm": "layer"}
    assert (convnext["final_norm"], large["hidden_width"]) == ("layer", 1280)
    assert (large["stages"][6]["expand_ratio"], large["stages"][6]["activation"]) == (2.3, "hard_swish")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": "conv"}, "`block` must be one of mbconv, separable, basic, bottleneck, .*, but got 'conv'"),
        ({"kernel_size": 2}, "`kernel_size` must be odd, but got 2"),
        ({"stride": 0}, "`stride` must be a whole number of at least 1, but got 0"),
        ({"depth": 1.0}, "`depth` must be a whole number of at least 1, but got 1.0"),
        ({"se_ratio": 1.5}, "`se_ratio` must be at least 0 and at most 1, but got 1.5"),
        ({"se_ratio": float("nan")}, "`se_ratio` must be at least 0 and at most 1, but got nan"),
        ({"se_ratio": "a"}, "`se_ratio` must be a number, but got 'a'"),
        ({"block": "basic", "expand_ratio": 1}, "`se_ratio` must be 0 in a `basic` block, but got 0.25"),
        ({"block": "separable", "se_ratio": 0}, "`expand_ratio` must be 1 in a `separable` block, but got 6"),
        (
            {"block": "bottleneck", "se_ratio": 0, "width": 20},
            "`width` must be a multiple of `expand_ratio` in a `bottleneck` block, but got width 20 and expand_ratio 6",
        ),
    ],
)
def test_an_impossible_stage_is_refused(changes: dict[str, Any], message: str) -> None:
    good = {"block": "mbconv", "kernel_size": 3, "stride": 1, "expand_ratio": 6, "width": 24, "depth": 2}
    with pytest.raises(ValueError, match=message):
        make_stage(**{**good, "se_ratio": 0.25, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "`width` must be a whole number of at least 1, but got 0"),
        ({"kernel_size": 4}, "`kernel_size` must be odd, but got 4"),
        ({"stride": -1}, "`stride` must be"),
        ({"pool_stride": 0}, "`pool_stride` must be"),
        ({"kernel_size": 2, "stride": 4}, "`kernel_size` must be odd, but got 2"),
        ({"norm": "group"}, "`norm` must be one of batch, layer, none, but got 'group'"),
    ],
)
def test_an_impossible_stem_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StemSpec(**{"width": 8, "kernel_size": 3, "stride": 2, **changes})


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_put_where_they_belong(name: str) -> None:
    spec = baseline(name).spec
    depths = tuple(depth + index + 1 for index, depth in enumerate(spec.depths))
    widths = tuple(width * 2 for width in spec.widths)
    grown = spec.with_sizes(depths, widths, 97)
    assert (grown.depths, grown.widths, grown.resolution) == (depths, widths, 97)
    assert grown.with_sizes(spec.depths, spec.widths, spec.resolution) == spec


def test_an_unknown_baseline_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"`baseline` must be one of efficientnet-b0, .*resnet-200, .*, but got 'vgg'"):
        baseline("vgg")
