"""coefficients.json: written for a person to read, read back exactly; a wrong one is one line that names its key."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.errors import InputError
from scalesearch.export.rule_json import parse_rule, read_rule, rule_text
from tests.scaling.test_rule import KEYS, example

GOLDEN = Path(__file__).parents[1] / "golden"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1.001, 1e7))
def test_the_text_gives_the_rule_back(depth: float, fraction: float, budget: float) -> None:
    rule = example(depth, fraction, budget)
    assert parse_rule(json.loads(rule_text(rule))) == rule


def test_the_text_is_the_json_of_the_rule_and_short_parts_stand_on_one_line() -> None:
    rule = dataclasses.replace(
        example(),
        intervals={"alpha": [1.0, 1.25], "places": [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]},
        tied=({"depths": [1, 2], "note": "[ 1,\n  2 ]"}, list(range(100))),
        provenance={"phi": [], "trials": {"waiting": 0}},
    )
    text = rule_text(rule)
    assert json.loads(text) == json.loads(json.dumps(rule.to_json()))
    assert list(json.loads(text)) == KEYS
    lines = text.splitlines()
    assert '    "alpha": [1.0, 1.25],' in lines
    assert "      [0.0, 0.0, 1.0]," in lines
    assert '      "depths": [1, 2],' in lines
    assert '    "trials": {"waiting": 0}' in lines
    assert sum('"block": "mbconv"' in line and '"se_ratio": 0.0}' in line for line in lines) == 7
    assert max(map(len, lines)) <= 132
    assert len(lines) > 100  # a long list keeps a line for each element


def test_a_file_of_schema_version_1_is_read_without_the_points_of_its_region() -> None:
    path = GOLDEN / "run_0_1" / "coefficients.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["schema_version"] == 1
    assert document["intervals"].pop("points")
    assert read_rule(path.parent) == read_rule(path)
    assert json.loads(rule_text(read_rule(path))) == {**document, "schema_version": 2}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_does_no_harm(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rule.json"
    path.write_text(rule_text(example()), encoding=encoding)
    assert read_rule(path) == example()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON (Expecting value: line 1 column 1"),
        (b"{", "not valid JSON ("),
        (b"\xff\xfe", "not valid JSON ("),
        (b'{"budget": ' + 5000 * b"[" + 5000 * b"]" + b"}", "not valid JSON (nested too deeply)"),
        (b'{"budget": ' + 300 * b"[" + 300 * b"]" + b"}", "not valid JSON (nested too deeply)"),
        (b" " * (2**24 + 1), "not valid JSON (it has more than 16,777,216 bytes)"),
        (b'{"budget": ' + 5000 * b"9" + b"}", "not valid JSON ("),
        (b"[]", "the document must be an object, but got []"),
        (b"{}", "missing key `schema_version`"),
    ],
)
def test_a_file_that_holds_no_rule_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rule.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_rule(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as missing:
        read_rule(tmp_path)
    assert str(missing.value) == f"{tmp_path}: no coefficients.json there yet; finish the run first"


def test_the_folder_of_a_trained_model_is_no_rule(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InputError, match="the folder of a trained model, not of a rule"):
        read_rule(tmp_path)
    (tmp_path / "coefficients.json").mkdir()
    with pytest.raises(InputError) as folder:
        read_rule(tmp_path)
    assert str(folder.value) == f"{tmp_path / 'coefficients.json'}: cannot be read (Is a directory)"


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(key: str) -> None:
    document = example().to_json()
    del document[key]
    with pytest.raises(InputError, match=f"^file: missing key `{key}`$"):
        parse_rule(document, "file")


WRONG: list[tuple[str, Any]] = [
    ("beta", 1e200),
    ("training.dropout", "half"),
    ("training.batch_size", 10**400),
    ("schema_version", 0),
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
    ("seeds", 10**400),
    ("baseline.spec.head_width", 2**70),
    ("rounding.width_divisor", 2**70),
    ("provenance", "today"),
    ("extra", 1),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_one_line_that_names_its_key(key: str, value: Any) -> None:
    document = copy.deepcopy(example().to_json())
    *parents, last = key.split(".")
    target = document
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(InputError) as error:
        parse_rule(document, "file")
    assert str(error.value).startswith("file: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250
    assert f"{last}`" in str(error.value)


def test_what_is_computed_with_must_be_numbers() -> None:
    document = {**example().to_json(), "provenance": {"trials": {"waiting": "x"}}}
    with pytest.raises(InputError, match=r"^file: `provenance\.trials\.waiting` must be a number from 0 to"):
        parse_rule(document, "file")


@pytest.mark.parametrize("document", [None, [], "rule", 3])
def test_another_document_is_one_line(document: object) -> None:
    with pytest.raises(InputError, match="^file: the document must be an object, but got"):
        parse_rule(document, "file")
