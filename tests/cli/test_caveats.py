"""What commands say about a rule before they hand it over."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from scalesearch.cli.main import main
from tests.planted import planted_rule


def test_a_rule_to_be_careful_with_says_so_wherever_it_is_handed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = planted_rule()
    careful = dataclasses.replace(
        rule,
        resolved=False,
        provenance={**rule.provenance, "trials": {"waiting": 5, "running": 1}},
        baseline=dataclasses.replace(rule.baseline, rounding=dataclasses.replace(rule.rounding, width_divisor=7)),
    )
    (tmp_path / "coefficients.json").write_text(json.dumps(careful.to_json()), encoding="utf-8")
    for command in (["export"], ["scale", "--json"], ["explain", "--json"]):
        assert main([*command, str(tmp_path)]) == 0
        out, err = capsys.readouterr()
        json.loads(out)
        assert "provisional: 6 trials had still to be trained" in err
        assert "not resolved" in err
        assert "Widths off the grid of `width_divisor` 7: " in err
        assert main([*command, str(tmp_path), "--quiet"]) == 0
        assert capsys.readouterr().err == ""
