"""The network of docs/examples: what the page shows is planned, counted and trained here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scalesearch
from scalesearch.cli.main import main
from scalesearch.study.load import load_study

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
STUDY = EXAMPLES / "study.toml"


def test_it_is_planned_and_counted_without_flax(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    assert main(["plan", "--study", "study.toml", "--no-data", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["baseline"]["name"] == "my_nets:TinyNet"
    assert (plan["baseline"]["macs"], plan["distinct"]) == (53_536, 6)
    assert {stage["block"] for one in plan["candidates"] for stage in one["spec"]["stages"]} == {"my_nets:Gated"}

    assert main(["count", "--baseline", "my_nets:LinenNet", "--width", "2", "--json"]) == 0
    count = json.loads(capsys.readouterr().out)
    assert count["spec"]["module"] == "my_blocks:LinenNet"
    assert count["spec"]["stages"][1]["width"] == 32


@pytest.mark.long
@pytest.mark.slow
def test_a_candidate_trains_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = {"design": {"kind": "qmc", "size": 1}, "seeds": 1, "tolerance": 0.1}
    data = {"train": 100, "validation": 100}
    training = {"epochs": 1, "warmup_epochs": 0.5}
    run = scalesearch.search(STUDY, tmp_path / "run", events=lambda event: None, data=data, training=training, **tiny)
    assert run.states["complete"] == 1
    assert run.rule.baseline.name == "my_nets:TinyNet"
    copies = [(tmp_path / "run" / path.name).read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.py"))]
    assert copies == [path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.py"))]

    # What follows a search reads the network back.
    assert main(["scale", str(tmp_path / "run"), "--phi", "0,1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["family"][0]["macs"] == 53_536
    assert main(["explain", str(tmp_path / "run"), "--phi", "1"]) == 0
    assert load_study(tmp_path / "run/study.toml").resolved_baseline().spec == run.rule.baseline.spec
