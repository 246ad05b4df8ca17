"""Specs are checked at construction and survive JSON; a wrong document is refused by the name of its key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from scalesearch.baselines.published import NAMES, baseline
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from tests.scaling.test_complexity import specs


@given(specs())
def test_json_gives_the_spec_back(spec: ArchitectureSpec) -> None:
    assert ArchitectureSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


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


def _b0() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(baseline("efficientnet-b0").spec.to_json()))
    return document


@pytest.mark.parametrize("key", ["resolution", "in_channels", "num_classes", "stem", "stages", "head_width"])
def test_a_missing_key_is_named(key: str) -> None:
    document = _b0()
    del document[key]
    with pytest.raises(ValueError, match=f"`spec` lacks the key `{key}`"):
        ArchitectureSpec.from_json(document)


def test_keys_are_named_with_the_place_they_are_in() -> None:
    document = _b0()
    document["widht"] = 3
    with pytest.raises(ValueError, match="`spec` has the unknown key `widht`; allowed: resolution, "):
        ArchitectureSpec.from_json(document)
    document = _b0()
    document["stem"]["pad"] = 1
    with pytest.raises(ValueError, match="`stem` has the unknown key `pad`; allowed: width, "):
        ArchitectureSpec.from_json(document)
    document = _b0()
    del document["stages"][3]["width"]
    with pytest.raises(ValueError, match=r"`stages\[3\]` lacks the key `width`"):
        ArchitectureSpec.from_json(document)
    document = _b0()
    document["stages"][3]["kernel_size"] = 4
    with pytest.raises(ValueError, match=r"stages\[3\]: `kernel_size` must be odd, but got 4"):
        ArchitectureSpec.from_json(document)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("resolution", 0, "`resolution` must be a whole number of at least 1, but got 0"),
        ("resolution", 224.0, "`resolution` must be a whole number of at least 1, but got 224.0"),
        ("in_channels", True, "`in_channels` must be a whole number of at least 1, but got True"),
        ("num_classes", "ten", "`num_classes` must be a whole number of at least 1, but got 'ten'"),
        ("head_width", -1, "`head_width` must be a whole number of at least 0, but got -1"),
        ("head_width", False, "`head_width` must be a whole number of at least 0, but got False"),
        ("activation", "gelu", "`activation` must be one of swish, relu, relu6, but got 'gelu'"),
        ("activation", ["relu"], "`activation` must be one of swish, relu, relu6, but got"),
        ("stages", [], "`stages` must hold at least one stage, but got none"),
        ("stages", {}, "`stages` must be a list, but got {}"),
        ("stages", [3], r"`stages\[0\]` must be an object, but got 3"),
        ("stem", 3, "`stem` must be an object, but got 3"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArchitectureSpec.from_json({**_b0(), key: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": "conv"}, "`block` must be one of mbconv, separable, basic, bottleneck, but got 'conv'"),
        ({"kernel_size": 2}, "`kernel_size` must be odd, but got 2"),
        ({"stride": 0}, "`stride` must be a whole number of at least 1, but got 0"),
        ({"depth": 1.0}, "`depth` must be a whole number of at least 1, but got 1.0"),
        ({"se_ratio": 1.5}, "`0 <= se_ratio <= 1` must hold, but got 1.5"),
        ({"se_ratio": float("nan")}, "`0 <= se_ratio <= 1` must hold, but got nan"),
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
        ({"width": 0}, "`stem.width` must be a whole number of at least 1, but got 0"),
        ({"kernel_size": 4}, "`stem.kernel_size` must be odd, but got 4"),
        ({"stride": -1}, "`stem.stride` must be"),
        ({"pool_stride": 0}, "`stem.pool_stride` must be"),
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
    with pytest.raises(ValueError, match=r"`baseline` must be one of efficientnet-b0, .*resnet-200, but got 'vgg'"):
        baseline("vgg")
