"""`run` with levels of the budget, rungs of the schedule, a race and a limit of time, on a study of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scalesearch.cli.main import main
from scalesearch.results.load import load
from tests.cli.tiny import complaint

DONE = "all trials are finished: nothing to train"


@pytest.mark.long
@pytest.mark.slow
def test_levels_and_rungs_are_searches_of_one_run(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    flags = ["run", "--study", str(tiny), "--out", str(folder), "--phi", "1,2", "--epochs", "1,2"]
    assert main(flags) == 0
    out, err = capsys.readouterr()
    begun = [line.partition("[")[0] for line in err.splitlines()]
    # One baseline serves all levels and rungs.
    assert begun == [""] * 4 + ["φ = 2: "] * (len(begun) - 7) + ["1-epoch schedule: "] * 3
    assert "Schedule: candidate order after fewer epochs, compared with 2 epochs" in out
    run = load(folder)
    assert {record.phi for record in run.records} == {1.0, 2.0}
    assert {len(seed.train_loss) for record in run.records for seed in record.seeds} == {2}
    assert {len(seed.train_loss) for record in run.rungs[1] for seed in record.seeds} == {1}
    document = json.loads((folder / "coefficients.json").read_text(encoding="utf-8"))
    assert document["provenance"]["phi"] == [1.0, 2.0]
    assert [rung["epochs"] for rung in document["provenance"]["schedule"]] == [1]
    assert document["budget"] == 2.0

    assert main([*flags, "--json"]) == 0
    again, err = capsys.readouterr()
    assert err.splitlines() == [DONE, f"φ = 2: {DONE}", f"1-epoch schedule: {DONE}"]
    assert json.loads(again)["rule"] == document


@pytest.mark.long
@pytest.mark.slow
def test_a_race_ends_goes_on_and_keeps_to_the_time(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    flags = ["run", "--study", str(tiny), "--out", str(folder), "--race"]
    assert main([*flags, "--time", "1s"]) == 5  # over before a worker has started
    out, err = capsys.readouterr()
    told = "the time limit is reached before a candidate was trained, 4 trials left; run the same command again"
    assert err == f"scalesearch: {told} with more time\n"
    assert "nothing can be chosen" in out
    assert main(flags) == 0
    capsys.readouterr()
    run = load(folder)
    assert {tuple(seed.seed for seed in record.seeds) for record in run.records} >= {(0,), (1,)}
    assert run.candidates["seeds"].max() == 2
    assert run.reference is not None
    assert [seed.seed for seed in run.reference.seeds] == [0, 1]  # those of the finalists
    assert main(flags) == 0
    assert DONE in capsys.readouterr().err
    assert main(["run", "--study", str(tiny), "--out", str(folder)]) == 3
    assert "`race` was True, now False" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.slow
def test_a_pruned_candidate_is_shown_as_pruned_and_not_trained_again(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    flags = ["run", "--study", str(tiny), "--out", str(folder), "--prune"]
    assert main(flags) == 0
    out, err = capsys.readouterr()
    assert "at most 3 candidates × 2 seeds × 2 epochs; the weaker half is pruned 1 time on the way" in out
    run = load(folder)
    assert run.states["complete"] + run.states["pruned"] == 3
    pruned = [record for record in run.records if record.status == "pruned"]
    assert len(pruned) == err.count("pruned after 2 epochs of 2 seeds × 2 epochs") == run.states["pruned"] > 0
    # Cut short as it would have gone on: the curve of its seed is that of the whole schedule.
    assert [[len(seed.train_loss) for seed in record.seeds] for record in pruned] == [[2]] * len(pruned)
    assert main(["run", "--study", str(tiny), "--out", str(tmp_path / "whole")]) == 0
    whole = {record.candidate.spec: record for record in load(tmp_path / "whole").records}
    for record in pruned:
        assert record.seeds[0].val_loss_curve == whole[record.candidate.spec].seeds[0].val_loss_curve
    capsys.readouterr()

    assert main(flags) == 0
    out, err = capsys.readouterr()
    assert DONE in err
    assert f"{len(pruned)} more candidate" in out
    assert main(["status", str(folder)]) == 0
    assert f"{3 - len(pruned)} trials complete, {len(pruned)} pruned, 0 failed" in capsys.readouterr().out
    assert f", {len(pruned)} pruned" in (folder / "report.html").read_text(encoding="utf-8")
    assert main(flags[:-1]) == 3
    assert "`prune` was True, now not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--time", "30"), "--time: must be a time such as 90s, 30m or 2h, but got '30'"),
        (("--time", "-5m"), "--time: must be a time"),
        (("--epochs", "5,2"), "--epochs: must be rising numbers of epochs (2,5,12), but got '5,2'"),
        (("--epochs", "2,x"), "--epochs: must be a whole number of at least 1, but got 'x'"),
        (("--phi", "1,two"), "--phi: must be a number, but got 'two'"),
    ],
)
def test_wrong_flags(flags: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["run", f"{flags[0]}={flags[1]}"])
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_levels_that_make_no_sense(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = complaint(capsys, "plan", "--study", tiny, "--phi", "2")
    assert "--phi: `phi` must hold 1 and no number twice, but got [2.0]" in told
    told = complaint(capsys, "plan", "--study", tiny, "--race", "--design", "tpe")
    assert "`race` needs a design of feasible candidates (lattice, grid, qmc), but got tpe" in told
    told = complaint(capsys, "run", "--study", tiny, "--race", "--prune")
    assert "`race` and `prune` are two ways to spend less: only one of them can be true" in told
