"""coefficients.json: what is written reads back, old files too; and every key missing, unknown or wrong is one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from scalesearch.errors import InputError
from scalesearch.export.rule_json import parse_rule, read_rule, rule_text
from tests.scaling.test_rule import KEYS, example

GOLDEN = Path(__file__).parents[1] / "golden" / "run_0_1" / "coefficients.json"


def test_what_is_written_reads_back_and_is_a_page(tmp_path: Path) -> None:
    rule = read_rule(GOLDEN)
    path = tmp_path / "coefficients.json"
    path.write_text(rule_text(rule), encoding="utf-8")
    assert read_rule(tmp_path) == rule
    assert json.loads(rule_text(rule)) == json.loads(json.dumps(rule.to_json()))
    assert len(rule_text(rule).splitlines()) < 300


def test_a_file_of_schema_version_1_reads_without_the_points_of_its_region() -> None:
    document = json.loads(GOLDEN.read_text(encoding="utf-8"))
    rule = read_rule(GOLDEN)
    assert document["schema_version"] == 1
    assert (rule.alpha, rule.beta, rule.gamma) == (document["alpha"], document["beta"], document["gamma"])
    assert {**rule.intervals, "points": document["intervals"]["points"]} == document["intervals"]


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "coefficients.json"
    path.write_bytes(b"\xef\xbb\xbf" + rule_text(example()).encode())
    assert read_rule(path) == example()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("3", "must be an object"),
        ("{}", "missing key"),
    ],
)
def test_a_file_without_a_rule_is_one_line_that_names_it(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "coefficients.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_rule(path)
    assert str(error.value).startswith(f"{path}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(key: str):
    document = example().to_json()
    del document[key]
    with pytest.raises(ValueError, match=f"missing key `{key}`"):
        parse_rule(document)


WRONG: list[tuple[str, Any]] = [
    ("schema_version", 3),
    ("schema_version", True),
    ("budget", "2"),
    ("budget", float("nan")),
    ("budget", 1.0),
    ("alpha", None),
    ("alpha", True),
    ("beta", 10**400),
    ("gamma", 0),
    ("shares", [0.3, 0.28, 0.42]),
    ("shares.depth", "a third"),
    ("shares.depth", None),
    ("intervals", 3),
    ("resolved", "yes"),
    ("resolved", 1),
    ("tied", "none"),
    ("metric", 4),
    ("baseline", "mobilenet-v2"),
    ("baseline.name", 1),
    ("baseline.spec", []),
    ("baseline.spec.resolution", 0),
    ("baseline.spec.stages", {}),
    ("rounding.depth", "floor"),
    ("rounding.width_divisor", 0),
    ("rounding.extra", 0),
    ("data", None),
    ("training", []),
    ("seeds", 0),
    ("seeds", 2.0),
    ("provenance", "today"),
    ("extra", 1),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_one_line_that_names_its_key(key: str, value: Any):
    document = copy.deepcopy(example().to_json())
    *parents, last = key.split(".")
    target = document
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the text is checked below
        parse_rule(document)
    assert "\n" not in str(error.value)
    assert f"{last}`" in str(error.value)


@pytest.mark.parametrize("document", [None, [], "rule", 3])
def test_another_document_is_one_line(document: object):
    with pytest.raises(ValueError, match="the document must be an object"):
        parse_rule(document)
