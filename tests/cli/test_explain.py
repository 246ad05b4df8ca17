"""The command explain: the factors between nominal and real cost, and the published family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scalesearch.cli.main import main
from tests.cli.tiny import ROOT, answer, complaint

GOLDEN = json.loads((ROOT / "tests/golden/efficientnet.json").read_text(encoding="utf-8"))


def test_json_tells_the_factors_and_the_published_family(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "explain", "--phi", "0,1", "--nominal")
    assert list(document) == ["baseline", "alpha", "beta", "gamma", "product", "family", "published", "told"]
    assert [document[name] for name in ("baseline", "alpha", "beta", "gamma")] == ["efficientnet-b0", 1.2, 1.1, 1.15]
    assert list(document["family"][1]) == [
        "phi", "alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations", "spec",
        "within_tolerance", "shares", "training_memory", "training", "nominal", "factors",
    ]  # fmt: skip
    assert round(document["family"][1]["macs_ratio"], 2) == GOLDEN["paper_triple"]["real_macs_ratio_at_phi_1_258px"]
    assert list(document["family"][1]["factors"]) == ["formula", "depth", "width", "resolution"]
    for mine, golden in zip(document["published"], GOLDEN["family"][1:], strict=True):
        assert mine["name"].lower() == golden["name"]
        assert (mine["resolution"], mine["params"]) == (golden["resolution"], golden["params"])
        assert list(mine["phi"]) == list(mine["shares"]) == ["depth", "width", "resolution"]


def test_without_a_file_it_explains_the_papers_up_to_7(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--nominal"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("efficientnet-b0, α = 1.200, β = 1.100, γ = 1.150\n")
    rows = [row.split() for row in out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in set("01234567")] == list("01234567") * 2
    assert ["1", "1.340", "0.993", "1.225", "0.966", "1.140", "19.2,", "23", "257.6,", "258"] in rows
    assert ["B7", "3.1", "2", "600", "6.21", "7.27", "7.05", "6.88"] in [row[:8] for row in rows]
    assert "φ = 1 is furthest from that: 2.573 times the baseline's" in " ".join(out.split())


def test_the_papers_family_really_costs_what_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "explain", "--phi", "0:7")
    assert all(abs(member["macs_ratio"] / member["nominal"] - 1) <= 0.02 for member in document["family"])
    assert document["told"][2].endswith("would cost up to 34 % more: 2.573 times the baseline's at φ = 1.")


def test_a_rule_is_explained_by_itself(capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
    document = answer(capsys, "explain", str(rule_file), "--phi", "2")
    (scaled,) = answer(capsys, "scale", str(rule_file), "--phi", "2")["family"]
    assert document["published"] == []
    assert scaled.items() <= document["family"][0].items()
    assert document["family"][0]["nominal"] == pytest.approx(4)
    assert main(["explain", str(rule_file)]) == 0
    assert "B7" not in capsys.readouterr().out


def test_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "--phi: `phi` must be numbers or ranges" in complaint(capsys, "explain", "--phi", "x")
    assert "--phi: `phi` must be at most" in complaint(capsys, "explain", "--phi", "0:99")
    assert "no such file" in complaint(capsys, "explain", str(tmp_path / "nowhere.json"))


def test_the_baseline_alone_is_no_evidence_of_what_a_step_costs(
    rule_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sentence,) = answer(capsys, "explain", str(rule_file), "--phi", "0")["told"]
    assert "should cost" in sentence
