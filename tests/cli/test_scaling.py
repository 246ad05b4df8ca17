"""The commands that answer at once: count, scale, export, explain; their JSON, one line for each bad input."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scalesearch.baselines.published import baseline
from scalesearch.cli.main import main
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.rule import ScalingRule
from tests.cli.tiny import ROOT, answer, complaint
from tests.planted import planted_rule

GOLDEN = json.loads((ROOT / "tests/golden/efficientnet.json").read_text(encoding="utf-8"))
CANDIDATE_KEYS = [
    "alpha", "beta", "gamma", "shares", "nominal", "macs", "macs_ratio", "params", "activations", "spec",
]  # fmt: skip


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "coefficients.json"
    path.write_text(json.dumps(planted_rule().to_json()), encoding="utf-8")
    return path


class TestCount:
    @pytest.mark.parametrize("row", GOLDEN["family"], ids=lambda row: row["name"])
    def test_efficientnets_to_the_last_parameter(self, capsys: pytest.CaptureFixture[str], row: dict[str, Any]) -> None:
        counted = answer(
            capsys, "count", "--baseline", "efficientnet-b0", "--depth", str(row["depth"]), "--width",
            str(row["width"]), "--resolution", str(row["resolution"]),
        )  # fmt: skip
        assert list(counted) == ["macs", "params", "activations", "spec"]
        assert counted["params"] == row["params"]
        assert round(counted["macs"] / 1e6, 1) == row["macs_M"]
        assert counted["spec"]["resolution"] == row["resolution"]

    def test_resolution_is_pixels_or_below_8_a_multiplier(self, capsys: pytest.CaptureFixture[str]) -> None:
        def pixels(*flags: str) -> int:
            return int(answer(capsys, "count", "--baseline", "resnet-50", *flags)["spec"]["resolution"])

        assert pixels() == 224
        assert pixels("--resolution", "1.15") == 258
        assert pixels("--resolution", "7.5") == 1680
        assert pixels("--resolution", "8") == 8
        assert pixels("--resolution", "300") == 300

    def test_rounding_is_the_authors_unless_said_otherwise(self, capsys: pytest.CaptureFixture[str]) -> None:
        def depths(*flags: str) -> list[int]:
            spec = answer(capsys, "count", "--baseline", "efficientnet-b0", "--depth", "1.2", *flags)["spec"]
            return [stage["depth"] for stage in spec["stages"]]

        assert depths() == depths("--rounding", "ceil") == [2, 3, 3, 4, 4, 5, 2]
        assert depths("--rounding", "round") == [1, 2, 2, 4, 4, 5, 1]
        assert sum(depths("--rounding", "balanced")) == 19  # 1.2 · 16 = 19.2 blocks

    def test_counts_a_studys_baseline(self, capsys: pytest.CaptureFixture[str]) -> None:
        study = str(ROOT / "studies/mnist_sample.toml")
        assert answer(capsys, "count", "--study", study)["macs"] == answer(capsys, "plan")["baseline"]["macs"]

    def test_text_tells_network_and_cost(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["count", "--baseline", "efficientnet-b0"]) == 0
        cost = complexity(baseline("efficientnet-b0").spec)
        out = capsys.readouterr().out
        assert "1-2-2-3-3-4-1 × 16-24-40-80-112-192-320 at 224 px" in out
        assert f"macs {cost.macs:,} (1.000× the baseline), params {cost.params:,}" in out

    @pytest.mark.parametrize(
        ("flags", "told"),
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
    def test_bad_input(self, capsys: pytest.CaptureFixture[str], flags: list[str], told: str) -> None:
        assert told in complaint(capsys, "count", *flags)


class TestScale:
    def test_json_has_the_contracts_keys(self, capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
        family = answer(capsys, "scale", str(rule_file), "--phi", "0:2")["family"]
        rule = ScalingRule.from_json(json.loads(rule_file.read_text(encoding="utf-8")))
        assert [member["phi"] for member in family] == [0, 1, 2]
        for member in family:
            assert list(member) == [
                "phi", "alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations", "spec",
            ]  # fmt: skip
            assert member["alpha"] == pytest.approx(rule.alpha ** member["phi"], rel=1e-12)
            assert complexity(ArchitectureSpec.from_json(member["spec"])).macs == member["macs"]
        assert family[0]["macs_ratio"] == 1

    def test_default_is_0_to_3_as_a_table(self, capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
        assert main(["scale", str(rule_file)]) == 0
        rows = capsys.readouterr().out.splitlines()
        assert [row.split()[0] for row in rows] == ["φ", "0", "1", "2", "3"]

    def test_below_0_the_family_shrinks(self, capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
        family = answer(capsys, "scale", str(rule_file), "--phi", "-2:0")["family"]
        assert [member["phi"] for member in family] == [-2, -1, 0]
        ratios = [member["macs_ratio"] for member in family]
        assert ratios == sorted(ratios)
        assert ratios[0] < 0.5

    @pytest.mark.parametrize("phi", ["", "x", "3:1", "0:7:0", "1,,2", "nan", "inf", "0:1e9", "1e9", "-1e9", "0:1:2:3"])
    def test_bad_phi(self, capsys: pytest.CaptureFixture[str], rule_file: Path, phi: str) -> None:
        assert "--phi: `phi` must" in complaint(capsys, "scale", str(rule_file), f"--phi={phi}")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda text: "", "not valid JSON"),
            (lambda text: text[: len(text) // 2], "not valid JSON"),
            (lambda text: "[]", "the document must be an object"),
            (lambda text: text.replace('"alpha"', '"alfa"', 1), "the key `alpha` is missing"),
            (lambda text: text.replace('"schema_version": 1', '"schema_version": 99', 1), "`schema_version` must be 1"),
            (lambda text: text.replace('"budget": 2.0', '"budget": "two"', 1), "`budget` must be a finite number"),
            (lambda text: text.replace('"budget": 2.0', '"budget": 3.0', 1), "must equal `budget`"),
            (lambda text: text.replace('"block": "mbconv"', '"block": "conv"', 1), "`block` must be one of"),
        ],
    )
    def test_bad_file(self, capsys: pytest.CaptureFixture[str], rule_file: Path, change: Any, told: str) -> None:
        text = rule_file.read_text(encoding="utf-8")
        rule_file.write_text(change(text), encoding="utf-8")
        line = complaint(capsys, "scale", str(rule_file))
        assert f"{rule_file}: " in line
        assert told in line

    def test_bytes_that_are_no_text(self, capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
        rule_file.write_bytes(b"\xff\xfe\x00")
        assert "not valid JSON" in complaint(capsys, "scale", str(rule_file))

    def test_missing_file_and_folder(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert "no such file" in complaint(capsys, "scale", str(tmp_path / "nowhere.json"))
        assert f"{tmp_path / 'coefficients.json'}: no such file" in complaint(capsys, "scale", str(tmp_path))

    def test_a_run_folder_will_do(self, capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
        assert answer(capsys, "scale", str(rule_file.parent)) == answer(capsys, "scale", str(rule_file))

    def test_an_unresolved_rule_is_called_one(self, capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
        assert main(["scale", str(rule_file)]) == 0
        assert capsys.readouterr().err == ""
        document = {**planted_rule().to_json(), "resolved": False}
        rule_file.write_text(json.dumps(document), encoding="utf-8")
        assert main(["scale", str(rule_file), "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == "scalesearch: this rule is not resolved: other splits may be as good\n"
        assert list(json.loads(out)) == ["family"]


class TestExport:
    def test_to_stdout_and_to_a_file(self, capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
        document = json.loads(rule_file.read_text(encoding="utf-8"))
        assert main(["export", str(rule_file.parent)]) == 0
        assert json.loads(capsys.readouterr().out) == document
        target = rule_file.parent / "out.json"
        assert main(["export", str(rule_file.parent), "--to", "json", "--output", str(target)]) == 0
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"wrote {target}\n")
        assert json.loads(target.read_text(encoding="utf-8")) == document

    def test_bad_input(self, capsys: pytest.CaptureFixture[str], rule_file: Path, tmp_path: Path) -> None:
        folder = str(rule_file.parent)
        assert "no such run folder" in complaint(capsys, "export", str(tmp_path / "nowhere"))
        assert "invalid choice: 'onnx'" in complaint(capsys, "export", folder, "--to", "onnx")
        for target in (tmp_path / "no" / "such.json", Path("/proc/self/out.json"), tmp_path):
            assert f"--output {target}: cannot be written" in complaint(
                capsys, "export", folder, "--output", str(target)
            )
        rule_file.unlink()
        assert "no coefficients.json there yet" in complaint(capsys, "export", folder)


class TestExplain:
    def test_json_tells_the_factors_and_the_published_family(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = answer(capsys, "explain", "--phi", "0,1")
        assert list(told) == ["baseline", "alpha", "beta", "gamma", "product", "family", "published", "told"]
        assert [told[name] for name in ("baseline", "alpha", "beta", "gamma")] == ["efficientnet-b0", 1.2, 1.1, 1.15]
        assert list(told["family"][1]) == [
            "phi", "alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations", "spec", "nominal",
            "factors",
        ]  # fmt: skip
        assert round(told["family"][1]["macs_ratio"], 2) == GOLDEN["paper_triple"]["real_macs_ratio_at_phi_1_258px"]
        assert list(told["family"][1]["factors"]) == ["formula", "depth", "width", "resolution"]
        for mine, golden in zip(told["published"], GOLDEN["family"][1:], strict=True):
            assert mine["name"].lower() == golden["name"]
            assert (mine["resolution"], mine["params"]) == (golden["resolution"], golden["params"])
            assert list(mine["phi"]) == list(mine["shares"]) == ["depth", "width", "resolution"]

    def test_without_a_file_it_explains_the_papers_up_to_7(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["explain"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("efficientnet-b0, α = 1.200, β = 1.100, γ = 1.150\n")
        rows = [row.split() for row in out.splitlines()]
        assert [row[0] for row in rows if row and row[0] in set("01234567")] == list("01234567") * 2
        assert ["1", "1.340", "0.993", "1.225", "0.966", "1.140", "19.2,", "23", "257.6,", "258"] in rows
        assert ["B7", "3.1", "2", "600", "6.21", "7.27", "7.05", "6.88"] in [row[:8] for row in rows]
        assert "φ = 1 is furthest from that: 2.573 times the baseline's" in " ".join(out.split())

    def test_a_rule_is_explained_by_itself(self, capsys: pytest.CaptureFixture[str], rule_file: Path) -> None:
        told = answer(capsys, "explain", str(rule_file), "--phi", "2")
        (scaled,) = answer(capsys, "scale", str(rule_file), "--phi", "2")["family"]
        assert told["published"] == []
        assert scaled.items() <= told["family"][0].items()
        assert told["family"][0]["nominal"] == pytest.approx(4)
        assert main(["explain", str(rule_file)]) == 0
        assert "B7" not in capsys.readouterr().out

    def test_bad_input(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert "--phi: `phi` must be numbers or ranges" in complaint(capsys, "explain", "--phi", "x")
        assert "--phi: `phi` must be at most" in complaint(capsys, "explain", "--phi", "0:99")
        assert "no such file" in complaint(capsys, "explain", str(tmp_path / "nowhere.json"))


@pytest.mark.parametrize("arguments", [[], ["plane"], ["plan", "--colour"], ["scale"], ["worker"]])
def test_what_argparse_refuses_is_one_line_too(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    complaint(capsys, *arguments)


_IMPORTS = """
import sys
from scalesearch.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as leaving:
    code = leaving.code
loaded = {name.partition(".")[0] for name in sys.modules}
heavy = {"jax", "jaxlib", "flax", "optax", "optuna", "pandas", "scipy", "sklearn", "plotly"}
sys.stderr.write(",".join(sorted(loaded & heavy)))
sys.exit(code)
"""


@pytest.mark.parametrize(
    "command", ["--help", "run --help", "plan", "plan --json", "count", "scale", "export", "explain"]
)
def test_what_answers_at_once_imports_nothing_heavy(command: str, rule_file: Path) -> None:
    arguments = command.split()
    arguments += {
        "count": ["--baseline", "resnet-18"],
        "scale": [str(rule_file)],
        "export": [str(rule_file.parent)],
    }.get(command, [])
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_rule_to_be_careful_with_says_so_wherever_it_is_handed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = planted_rule()
    careful = dataclasses.replace(
        rule, resolved=False, provenance={**rule.provenance, "trials": {"waiting": 5, "running": 1}}
    )
    (tmp_path / "coefficients.json").write_text(json.dumps(careful.to_json()), encoding="utf-8")
    for command in (["export"], ["scale", "--json"], ["explain", "--json"]):
        assert main([*command, str(tmp_path)]) == 0
        out, err = capsys.readouterr()
        json.loads(out)
        assert "provisional: 6 trials were still to be trained" in err
        assert "not resolved" in err


def test_the_baseline_alone_is_no_evidence_of_what_a_step_costs(
    rule_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sentence,) = answer(capsys, "explain", str(rule_file), "--phi", "0")["told"]
    assert "should cost" in sentence


@pytest.mark.parametrize(
    ("baseline", "redirected", "code"),
    [("efficientnet-b0", ">&-", 0), ("efficientnet-b0", "2>&-", 0), ("efficientnet-b9", ">&-", 2), ("b9", "2>&-", 2)],
)
def test_closed_streams_change_no_exit_code(baseline: str, redirected: str, code: int) -> None:
    command = f"{sys.executable} -m scalesearch count --baseline {baseline} {redirected}"
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
