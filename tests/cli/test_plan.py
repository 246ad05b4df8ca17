"""The command plan: its JSON, its table, what a design leaves open, and one line for each bad input."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from scalesearch.cli.main import main
from scalesearch.report.views.plan import trainings
from scalesearch.report.views.table import duration
from scalesearch.scaling.cost.count import complexity
from scalesearch.search.plan.design import make_plan
from scalesearch.search.plan.reference import reference_seconds
from scalesearch.search.plan.timing import predicted_seconds
from scalesearch.study.documents import spec_from_json
from scalesearch.study.load import load_study, shipped_studies
from tests.cli.tiny import ROOT, TINY, answer, complaint

GOLDEN = json.loads((ROOT / "tests/golden/efficientnet.json").read_text(encoding="utf-8"))
CANDIDATE_KEYS = [
    "alpha", "beta", "gamma", "shares", "nominal", "macs", "macs_ratio", "params", "activations", "spec",
]  # fmt: skip


def test_json_has_the_contracts_keys(capsys: pytest.CaptureFixture[str]) -> None:
    plan = answer(capsys, "plan")
    assert list(plan) == [
        "budget", "tolerance", "baseline", "combinations", "counted", "feasible", "distinct", "unreached",
        "predicted_seconds",
        "candidates",
    ]  # fmt: skip
    assert list(plan["baseline"]) == ["name", "spec", "macs", "params", "activations"]
    for candidate in plan["candidates"]:
        assert list(candidate) == CANDIDATE_KEYS
        assert list(candidate["shares"]) == ["depth", "width", "resolution"]
        assert list(candidate["nominal"]) == ["alpha", "beta", "gamma"]
        cost = complexity(spec_from_json(candidate["spec"]))
        assert (cost.macs, cost.params, cost.activations) == tuple(
            candidate[key] for key in ("macs", "params", "activations")
        )
        assert candidate["macs_ratio"] == cost.macs / plan["baseline"]["macs"]
        assert abs(candidate["macs_ratio"] / 2 - 1) <= plan["tolerance"]


def test_nominal_grid_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    grid = ("--design", "grid", "--step", "0.05", "--nominal")
    plan = answer(capsys, "plan", "--no-data", *grid, "--baseline", "efficientnet-b0")
    assert (len(plan["candidates"]), plan["distinct"]) == (109, 65)
    ratios = [candidate["macs_ratio"] for candidate in plan["candidates"]]
    assert (round(min(ratios), 2), round(max(ratios), 2)) == (1.93, 3.33)
    assert sum(abs(ratio / 2 - 1) <= 0.1 for ratio in ratios) == 12
    twins = Counter(json.dumps(candidate["spec"]) for candidate in plan["candidates"])
    assert len(twins) == 65
    for candidate in plan["candidates"]:
        nominal = candidate["nominal"]
        assert 1.9 - 1e-9 <= nominal["alpha"] * nominal["beta"] ** 2 * nominal["gamma"] ** 2 <= 2.1 + 1e-9


def test_table_tells_counts_candidates_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--no-data", "--baseline", "efficientnet-b0", "--degree", "2"]) == 0
    out = capsys.readouterr().out
    assert "efficientnet-b0: 385.8 M macs, 5.289 M parameters" in out
    alike = "(1,424 without resolutions of the same maps)"
    assert f"cost 2 × the baseline within 2 % {alike}; 6 of them planned (lattice)" in out
    assert "6 candidates" in out


def test_a_sample_and_points_that_do_not_grow_are_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--baseline", "efficientnet-b0", "--degree", "1", "--budget", "40"]) == 0
    assert re.search(r"networks counted \(a sample of [\d,]+\); ", capsys.readouterr().out)
    grid = ("--design", "grid", "--step", "0.01", "--nominal", "--budget", "1.1")
    assert main(["plan", *grid]) == 0
    out = capsys.readouterr().out
    assert "154 with a nominal product within 5 % of 1.1" in out
    assert re.search(r"\(\d+ points round back to the baseline\)", out)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--step", "0.1"), "--step belongs to --design grid, but the design is lattice"),
        (("--size", "5"), "--size belongs to --design qmc or tpe, but the design is lattice"),
        (("--design", "tpe", "--degree", "3"), "--degree belongs to --design lattice, but the design is tpe"),
        (("--budget", "1e9"), "at most 100,000"),
    ],
)
def test_a_flag_that_would_do_nothing_or_too_much(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], line: str
) -> None:
    assert line in complaint(capsys, "plan", *flags)


def test_an_adaptive_plan_promises_no_more_than_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    plan = answer(capsys, "plan", "--design", "tpe", "--size", "200")
    assert plan["distinct"] == plan["feasible"] < 200
    assert plan["predicted_seconds"] is None
    assert main(["plan", "--design", "tpe", "--size", "200"]) == 0
    assert f"{plan['feasible']} candidates × 4 seeds" in capsys.readouterr().out


def test_flags_reach_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    plan = answer(capsys, "plan", "--budget", "3", "--tolerance", "0.03", "--degree", "1", "--rounding", "ceil")
    assert (plan["budget"], plan["tolerance"]) == (3.0, 0.03)
    assert len(plan["candidates"]) <= 3
    assert len(answer(capsys, "plan", "--design", "tpe", "--size", "7")["candidates"]) == 0


@pytest.mark.parametrize("budget", ["1", "0.5", "-2", "two", "nan", "inf", "", "0"])
def test_bad_budget(capsys: pytest.CaptureFixture[str], budget: str) -> None:
    line = complaint(capsys, "plan", "--budget", budget)
    assert "--budget: must be a number" in line
    assert repr(budget) in line or budget in line


@pytest.mark.parametrize("value", ["0", "1", "-0.1", "nan", "two"])
def test_bad_tolerance(capsys: pytest.CaptureFixture[str], value: str) -> None:
    assert "--tolerance: must be" in complaint(capsys, "plan", "--tolerance", value)


@pytest.mark.parametrize(
    ("flag", "value"), [("--seeds", "0"), ("--seeds", "1.5"), ("--seeds", "-1"), ("--degree", "0"), ("--size", "x")]
)
def test_bad_count(capsys: pytest.CaptureFixture[str], flag: str, value: str) -> None:
    assert f"{flag}: must be a whole number of at least 1, but got '{value}'" in complaint(capsys, "plan", flag, value)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--degree", "41"), "--degree: `design.degree` must be at most 40, but got 41"),
        (("--phi", "0"), "--phi: `phi[0]` must be greater than 0, but got 0.0"),
        (("--phi", "2"), "--phi: `phi` must hold 1 and no number twice, but got [2.0]"),
        (("--race", "--design", "tpe"), "--race: `race` needs a design of feasible candidates"),
    ],
)
def test_a_wrong_flag_is_named_instead_of_the_file(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], line: str
) -> None:
    assert complaint(capsys, "plan", *flags).startswith(f"scalesearch: {line}")


def test_a_key_that_the_files_design_does_not_use_is_told(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    tiny.write_text(TINY.replace("degree = 1", "degree = 1\nstep = 0.1"), encoding="utf-8")
    assert main(["plan", "--study", str(tiny)]) == 0
    line = "`design.step` is ignored: it belongs to `kind` grid, but the design is lattice"
    assert capsys.readouterr().err == f"scalesearch: note: {tiny}: {line}\n"


def test_rounding_that_misleads_is_told(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    study = TINY.replace("width_divisor = 1", "width_divisor = 8").replace("width = 8,", "width = 20,")
    tiny.write_text(study.replace("tolerance = 0.1", "tolerance = 0.4"), encoding="utf-8")
    assert main(["plan", "--study", str(tiny)]) == 0
    off_grid = (
        "Widths off the grid of `width_divisor` 8: stem 4, stage 1 4, stage 2 20. The least growth in width rounds"
    )
    assert f"{off_grid} them to 8, 8, 24, " in capsys.readouterr().out


def test_unknown_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    line = complaint(capsys, "plan", "--baseline", "efficientnet-b9")
    assert "'efficientnet-b9'" in line
    assert "efficientnet-b0, efficientnet-lite0" in line


def test_infeasible_budget_says_what_to_loosen(capsys: pytest.CaptureFixture[str]) -> None:
    line = complaint(capsys, "plan", "--tolerance", "0.0000001")
    assert "raise `tolerance` to" in line


def test_grid_without_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert "lower `design.step`" in complaint(capsys, "plan", "--design", "grid", "--step", "0.9", "--budget", "1.5")


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("seeds = 4", "seeds = 4\ncolour = 3", "unknown key `colour`"),
        ("epochs = 6", "epochs = 6\nepoch = 6", "unknown key `training.epoch` (did you mean `epochs`?)"),
        ("depth = 2,", "depth = 2, dept = 1,", "unknown key `baseline.stages[0].dept`"),
        ("seeds = 4", 'seeds = "two"', "`seeds` must be a whole number, but got 'two'"),
        ("seeds = 4", "seeds = true", "`seeds` must be a whole number, but got True"),
        ("budget = 2.0", "budget = 1.0", "`budget` must be greater than 1, but got 1.0"),
        ("budget = 2.0", "budget = nan", "`budget` must be a finite number, but got nan"),
        ("tolerance = 0.05", "tolerance = 0", "`tolerance` must be greater than 0, but got 0"),
        ('source = "mnist-sample"', 'source = "cifar"', "MODULE:FUNCTION, but got 'cifar'"),
        ("[training]", "[training", "not valid TOML"),
        ('name = "mnist_sample"', 'name = "a/../b"', "`name` must match"),
    ],
)
def test_bad_study_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, before: str, after: str, line: str) -> None:
    path = tmp_path / "study.toml"
    text = (ROOT / "studies/mnist_sample.toml").read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    line = complaint(capsys, "plan", "--study", str(path))
    assert line.startswith(f"scalesearch: {path}: ")
    assert line in line


def test_a_shipped_study_by_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert answer(capsys, "plan", "--study", "fashion_mnist")["baseline"]["name"] == "mbconv-small"
    assert answer(capsys, "plan", "--study", "mnist_sample") == answer(capsys, "plan")
    line = complaint(capsys, "plan", "--study", "fashion")
    assert line == (f"scalesearch: fashion: no such study file; shipped studies are {', '.join(shipped_studies())}\n")


def test_the_predicted_time_counts_the_baseline(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    study = load_study(tiny)
    plan = make_plan(study)
    of_candidates = predicted_seconds(study, [trial.candidate for trial in plan.distinct])
    of_baseline = reference_seconds(study)
    assert of_candidates is not None
    assert of_baseline is not None
    assert answer(capsys, "plan", "--study", str(tiny))["predicted_seconds"] == round(of_candidates + of_baseline)
    told = trainings(study, plan, reference=True)
    assert told.endswith(
        f"about {duration(of_candidates + of_baseline)} on 2 CPU cores, the baseline as a reference included"
    )
    assert trainings(study, plan).endswith(f"about {duration(of_candidates)} on 2 CPU cores")


def test_a_schedule_of_one_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    """The default study warms up for one epoch."""
    plan, whole = answer(capsys, "plan", "--epochs", "1"), answer(capsys, "plan")
    assert plan["candidates"] == whole["candidates"]
    assert plan["predicted_seconds"] < whole["predicted_seconds"] / 2


def test_missing_study_file_and_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no such study file" in complaint(capsys, "plan", "--study", str(tmp_path / "nowhere.toml"))
    assert "cannot be read" in complaint(capsys, "plan", "--study", str(tmp_path))
