"""Specs from JSON objects: every good one survives; a wrong one is one line that names its key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from scalesearch.baselines.published import baseline
from scalesearch.errors import InputError
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.study.documents import spec_from_json
from tests.scaling.test_complexity import specs


@given(specs())
def test_json_gives_the_spec_back(spec: ArchitectureSpec) -> None:
    assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec


def _b0() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(baseline("efficientnet-b0").spec.to_json()))
    return document


@pytest.mark.parametrize("key", ["resolution", "in_channels", "num_classes", "stem", "stages", "head_width"])
def test_a_missing_key_is_named(key: str) -> None:
    document = _b0()
    del document[key]
    with pytest.raises(InputError, match=f"^file: missing key `{key}`$"):
        spec_from_json(document, "file")


def test_keys_are_named_with_the_place_they_are_in() -> None:
    document = _b0()
    document["widht"] = 3
    with pytest.raises(InputError, match="^file: unknown key `widht`; allowed here: resolution, in_channels, "):
        spec_from_json(document, "file")
    document = _b0()
    document["stem"]["pad"] = 1
    with pytest.raises(InputError, match="^file: unknown key `stem.pad`; allowed here: width, "):
        spec_from_json(document, "file")
    document = _b0()
    del document["stages"][3]["width"]
    with pytest.raises(InputError, match=r"^file: missing key `stages\[3\].width`$"):
        spec_from_json(document, "file")
    document = _b0()
    document["stages"][3]["kernel_size"] = 4
    with pytest.raises(InputError, match=r"^file: `stages\[3\].kernel_size` must be odd, but got 4$"):
        spec_from_json(document, "file")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("resolution", 0, "`resolution` must be a whole number of at least 1, but got 0"),
        ("resolution", 224.0, "`resolution` must be a whole number, but got 224.0"),
        ("in_channels", True, "`in_channels` must be a whole number, but got True"),
        ("num_classes", "ten", "`num_classes` must be a whole number, but got 'ten'"),
        ("head_width", -1, "`head_width` must be a whole number of at least 0, but got -1"),
        ("head_width", False, "`head_width` must be a whole number, but got False"),
        ("activation", "mish", "`activation` must be 'swish', 'relu', 'relu6', 'hard_swish' or 'gelu', but got 'mish'"),
        ("activation", ["relu"], "`activation` must be 'swish', 'relu', 'relu6', 'hard_swish' or 'gelu', but got "),
        ("resolution", 10**400, "`resolution` must be at most 100000000, but got 1" + 79 * "0" + "…"),
        ("stages", [], "`stages` must hold at least one stage, but got none"),
        ("stages", {}, "`stages` must be a list, but got {}"),
        ("stages", [3], r"`stages\[0\]` must be an object, but got 3"),
        ("stem", 3, "`stem` must be an object, but got 3"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=f"^file: {message}"):
        spec_from_json({**_b0(), key: value}, "file")
