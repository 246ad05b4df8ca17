"""The command count: exact costs, its roundings, and one line for each bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scalesearch.baselines.published import baseline
from scalesearch.cli.main import main
from scalesearch.scaling.cost.count import complexity
from tests.cli.tiny import ROOT, answer, complaint

GOLDEN = json.loads((ROOT / "tests/golden/efficientnet.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", GOLDEN["family"], ids=lambda row: row["name"])
def test_efficientnets_to_the_last_parameter(capsys: pytest.CaptureFixture[str], row: dict[str, Any]) -> None:
    counted = answer(
        capsys, "count", "--baseline", "efficientnet-b0", "--depth", str(row["depth"]), "--width",
        str(row["width"]), "--resolution", str(row["resolution"]),
    )  # fmt: skip
    assert list(counted) == ["macs", "params", "activations", "spec"]
    assert counted["params"] == row["params"]
    assert round(counted["macs"] / 1e6, 1) == row["macs_M"]
    assert counted["spec"]["resolution"] == row["resolution"]


def test_resolution_is_pixels_or_below_8_a_multiplier(capsys: pytest.CaptureFixture[str]) -> None:
    def pixels(*flags: str) -> int:
        return int(answer(capsys, "count", "--baseline", "resnet-50", *flags)["spec"]["resolution"])

    assert pixels() == 224
    assert pixels("--resolution", "1.15") == 258
    assert pixels("--resolution", "7.5") == 1680
    assert pixels("--resolution", "8") == 8
    assert pixels("--resolution", "300") == 300


def test_rounding_is_the_authors_unless_said_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    def depths(*flags: str) -> list[int]:
        spec = answer(capsys, "count", "--baseline", "efficientnet-b0", "--depth", "1.2", *flags)["spec"]
        return [stage["depth"] for stage in spec["stages"]]

    assert depths() == depths("--rounding", "ceil") == [2, 3, 3, 4, 4, 5, 2]
    assert depths("--rounding", "round") == [1, 2, 2, 4, 4, 5, 1]
    assert sum(depths("--rounding", "balanced")) == 19  # 1.2 · 16 = 19.2 blocks


def test_counts_a_studys_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    study = str(ROOT / "studies/mnist_sample.toml")
    assert answer(capsys, "count", "--study", study)["macs"] == answer(capsys, "plan")["baseline"]["macs"]


def test_text_tells_network_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--baseline", "efficientnet-b0"]) == 0
    cost = complexity(baseline("efficientnet-b0").spec)
    out = capsys.readouterr().out
    assert "1-2-2-3-3-4-1 × 16-24-40-80-112-192-320 at 224 px" in out
    assert f"macs {cost.macs:,} (1.000× the baseline), params {cost.params:,}" in out


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ([], "count needs --baseline NAME or --study FILE"),
        (["--baseline", "resnet-18", "--study", "x.toml"], "one of the two"),
        (["--baseline", "resnet-19"], "--baseline must be one of"),
        (["--baseline", "resnet-18", "--depth", "0"], "--depth: must be a number above 0"),
        (["--baseline", "resnet-18", "--width", "nan"], "--width: must be a number"),
        (["--baseline", "resnet-18", "--resolution", "260.5"], "whole number of pixels"),
        (["--baseline", "resnet-18", "--rounding", "down"], "--rounding: invalid choice: 'down'"),
        (["--baseline", "resnet-18", "--width", "1e300"], "--width"),
        (["--baseline", "resnet-18", "--depth", "1e300"], "--depth"),
        (["--baseline", "resnet-18", "--resolution", "1e300"], "--resolution"),
        (["--baseline", "resnet-18", "--width", "10000", "--depth", "100"], "less than 1.1e+15 macs"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], flags: list[str], line: str) -> None:
    assert line in complaint(capsys, "count", *flags)
