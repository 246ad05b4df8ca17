"""The command scale: the family in JSON and as a table, and one line for each bad rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scalesearch.cli.main import main
from scalesearch.export.rule_json import parse_rule
from scalesearch.scaling.compound import scale
from scalesearch.scaling.cost.count import complexity
from scalesearch.study.documents import spec_from_json
from tests.cli.tiny import answer, complaint
from tests.planted import planted_rule


def test_json_has_the_contracts_keys(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    family = answer(capsys, "scale", str(rule_file), "--phi", "0:2")["family"]
    rule = parse_rule(json.loads(rule_file.read_text(encoding="utf-8")))
    assert [member["phi"] for member in family] == [0, 1, 2]
    for member in family:
        assert list(member) == [
            "phi", "alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations", "spec", "within_tolerance",
            "shares", "training_memory", "training",
        ]  # fmt: skip
        assert abs(member["macs_ratio"] / rule.budget ** member["phi"] - 1) <= 0.02
        assert member["alpha"] == pytest.approx(rule.alpha ** member["phi"], rel=1e-12)
        assert complexity(spec_from_json(member["spec"])).macs == member["macs"]
    assert family[0]["macs_ratio"] == 1


def test_default_is_0_to_3_as_a_table(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    assert main(["scale", str(rule_file)]) == 0
    *rows, meaning, note = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["φ", "0", "1", "2", "3"]
    assert meaning.startswith("memory: what training takes")
    assert note == "Every member costs its nominal multiple of the baseline within 2 %."


def test_each_multiplier_rounded_by_itself(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    rule = parse_rule(json.loads(rule_file.read_text(encoding="utf-8")))
    (member,) = answer(capsys, "scale", str(rule_file), "--nominal", "--phi", "2")["family"]
    assert spec_from_json(member["spec"]) == scale(rule.baseline.spec, rule.coefficients**2, rule.rounding)
    assert main(["scale", str(rule_file), "--nominal"]) == 0
    assert "within" not in capsys.readouterr().out


def test_a_tolerance_that_nothing_meets_is_said(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    (member,) = answer(capsys, "scale", str(rule_file), "--tolerance", "1e-7", "--phi", "1")["family"]
    assert not member["within_tolerance"]
    assert main(["scale", str(rule_file), "--tolerance", "1e-7", "--phi", "1"]) == 0
    assert f"φ = 1 costs {member['macs_ratio']:.5g}× instead of 2×" in capsys.readouterr().out


def test_a_cap_on_resolution(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    (member,) = answer(capsys, "scale", str(rule_file), "--max-resolution", "112", "--phi", "3")["family"]
    assert (member["spec"]["resolution"], member["within_tolerance"]) == (112, True)
    assert "--max-resolution: `max_resolution` must be at least the baseline's resolution" in complaint(
        capsys, "scale", str(rule_file), "--max-resolution", "95"
    )
    assert "--max-resolution: not with --nominal" in complaint(
        capsys, "scale", str(rule_file), "--max-resolution", "112", "--nominal"
    )


def test_below_0_the_family_shrinks(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    family = answer(capsys, "scale", str(rule_file), "--phi", "-2:0")["family"]
    assert [member["phi"] for member in family] == [-2, -1, 0]
    ratios = [member["macs_ratio"] for member in family]
    assert ratios == sorted(ratios)
    assert ratios[0] < 0.5


@pytest.mark.parametrize("phi", ["", "x", "3:1", "0:7:0", "1,,2", "nan", "inf", "0:1e9", "1e9", "-1e9", "0:1:2:3"])
def test_bad_phi(capsys: pytest.CaptureFixture[str], rule_file: Path, phi: str) -> None:
    assert "--phi: `phi` must" in complaint(capsys, "scale", str(rule_file), f"--phi={phi}")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda text: "", "not valid JSON"),
        (lambda text: text[: len(text) // 2], "not valid JSON"),
        (lambda text: "[]", "the document must be an object"),
        (lambda text: text.replace('"alpha"', '"alfa"', 1), "the key `alpha` is missing"),
        (
            lambda text: text.replace('"schema_version": 2', '"schema_version": 99', 1),
            "`schema_version` must be at most 2",
        ),
        (lambda text: text.replace('"budget": 2.0', '"budget": "two"', 1), "`budget` must be a finite number"),
        (lambda text: text.replace('"budget": 2.0', '"budget": 3.0', 1), "must equal `budget`"),
        (lambda text: text.replace('"block": "mbconv"', '"block": "conv"', 1), "`block` must be one of"),
    ],
)
def test_bad_file(capsys: pytest.CaptureFixture[str], rule_file: Path, change: Any, line: str) -> None:
    text = rule_file.read_text(encoding="utf-8")
    rule_file.write_text(change(text), encoding="utf-8")
    line = complaint(capsys, "scale", str(rule_file))
    assert f"{rule_file}: " in line
    assert line in line


def test_bytes_that_are_no_text(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    rule_file.write_bytes(b"\xff\xfe\x00")
    assert "not valid JSON" in complaint(capsys, "scale", str(rule_file))


def test_missing_file_and_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no such file" in complaint(capsys, "scale", str(tmp_path / "nowhere.json"))
    assert f"{tmp_path}: no coefficients.json there yet" in complaint(capsys, "scale", str(tmp_path))


def test_a_run_folder_will_do(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    assert answer(capsys, "scale", str(rule_file.parent)) == answer(capsys, "scale", str(rule_file))


def test_an_unresolved_rule_is_called_one(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    assert main(["scale", str(rule_file)]) == 0
    assert capsys.readouterr().err == ""
    document = {**planted_rule().to_json(), "resolved": False}
    rule_file.write_text(json.dumps(document), encoding="utf-8")
    assert main(["scale", str(rule_file), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "scalesearch: this rule is not resolved: other splits may be as good\n"
    assert list(json.loads(out)) == ["family"]
