"""A run folder, written and read: finished, unfinished and empty; its files agree with its records."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import scalesearch
from scalesearch.analysis.outcome import NothingLearned
from scalesearch.analysis.surfaces.base import InsufficientTrials
from scalesearch.analysis.table_files import read_table
from scalesearch.cli.main import main
from scalesearch.errors import InputError, StorageError
from scalesearch.export.rule_json import parse_rule
from scalesearch.report.html import answers
from scalesearch.report.note import note
from scalesearch.report.terminal import show_result
from scalesearch.results.load import load
from scalesearch.results.records import Failure
from scalesearch.results.save import finish, save_study
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.study.load import load_study
from tests.planted import PlantedSurface, planted_evaluate, planted_run, planted_study

TABLES = ["candidates.csv", "candidates.parquet", "trials.csv", "trials.parquet"]
FILES = sorted([*TABLES, "coefficients.json", "region.csv", "report.html", "study.db", "study.toml"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_run_writes_every_file_of_the_contract_and_nothing_else(tmp_path: Path) -> None:
    run = planted_run(tmp_path)
    finish(run)
    assert names(tmp_path) == FILES
    assert [path.name for path in run.files()] == FILES
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "planted" in page
    assert page.rstrip().endswith("</html>")


def test_the_rule_is_that_of_coefficients_json(tmp_path: Path) -> None:
    run = planted_run(tmp_path)
    finish(run)
    document = json.loads((tmp_path / "coefficients.json").read_text(encoding="utf-8"))
    assert document == load(tmp_path).rule.to_json()
    rule = parse_rule(document)
    assert rule.coefficients.product == pytest.approx(2.0, abs=1e-9)
    assert rule.shares == run.choice.shares
    assert list(document) == [
        "schema_version", "budget", "alpha", "beta", "gamma", "shares", "intervals", "resolved", "tied", "metric",
        "baseline", "rounding", "data", "training", "seeds", "provenance",
    ]  # fmt: skip
    provenance = document["provenance"]
    assert {"date", "versions", "device", "fingerprint", "basis", "signal"} <= set(provenance)
    assert provenance["fingerprint"] == studies.fingerprint(planted_study(), "digest")
    assert provenance["device"] == "planted"
    chances = run.candidates.set_index(run.candidates["candidate"].astype(str))["chance"]
    assert provenance["chances"] == pytest.approx(chances.to_dict())
    assert sum(provenance["chances"].values()) == pytest.approx(1.0)
    assert provenance["versions"] == {"planted": "1.0"}  # of the packages that trained, not of those that read
    assert provenance["analysis_versions"]["scalesearch"] == scalesearch.__version__


def test_the_nearest_network_costs_the_budget(tmp_path: Path) -> None:
    run = planted_run(tmp_path)
    assert abs(run.nearest.cost_ratio / 2 - 1) <= run.study.tolerance
    asked = np.array(run.choice.shares.values)
    assert np.abs(np.array(run.nearest.shares.values) - asked).max() < 0.05
    assert run.to_json()["nearest"]["spec"] == run.nearest.spec.to_json()


def test_the_tables_agree_with_the_records(tmp_path: Path) -> None:
    run = planted_run(tmp_path)
    finish(run)
    assert len(run.records) == 15
    assert len(run.trials) == sum(len(record.seeds) for record in run.records) == 30
    losses = [seed.val_loss for record in run.records for seed in record.seeds]
    assert run.trials["val_loss"].tolist() == losses
    best = min(run.records, key=lambda record: record.mean("val_loss"))
    first = run.candidates.iloc[0]
    assert first["val_loss"] == pytest.approx(best.mean("val_loss"), abs=1e-12)  # two orders of summing two floats
    assert first["macs"] == best.candidate.complexity.macs
    assert run.candidates["val_loss"].is_monotonic_increasing
    for name in TABLES:
        stored = read_table(tmp_path / name)
        pd.testing.assert_frame_equal(stored, run.trials if name.startswith("trials") else run.candidates)


def test_the_study_file_is_read_back_as_it_was(tmp_path: Path) -> None:
    for changes in ({}, {"budget": 1.5}, {"design": {"kind": "qmc", "size": 7}}, {"training": {"ema_decay": 0.98}}):
        config = planted_study(**changes)
        save_study(tmp_path, config)
        assert load_study(tmp_path / "study.toml") == config


def test_finishing_again_gives_the_same_coefficients(tmp_path: Path) -> None:
    documents = []
    for _ in range(2):
        finish(planted_run(tmp_path))
        documents.append(json.loads((tmp_path / "coefficients.json").read_text(encoding="utf-8")))
    assert documents[0] == documents[1]
    assert names(tmp_path) == FILES


def test_an_unfinished_run_tells_how_far_it_is(tmp_path: Path) -> None:
    run = planted_run(tmp_path, most=9)
    assert run.states == {"waiting": 6, "running": 0, "complete": 9, "pruned": 0, "failed": 0}
    assert (len(run.records), len(run.candidates), run.failed) == (9, 9, 0)
    assert run.surface().n == 9
    status = run.status()
    assert list(status) == ["study", "budget", "metric", "trials", "leaders", "signal"]
    assert status["trials"] == run.states
    assert [leader["candidate"] for leader in status["leaders"]] == run.candidates["candidate"].head(5).tolist()
    json.dumps(run.to_json(), allow_nan=False)
    finish(run)
    assert names(tmp_path) == FILES


def test_an_empty_run_has_no_rule_but_tells_its_status(tmp_path: Path) -> None:
    run = planted_run(tmp_path, most=0)
    assert run.states == {"waiting": 15, "running": 0, "complete": 0, "pruned": 0, "failed": 0}
    assert run.records == ()
    assert run.trials.empty
    assert run.candidates.empty
    for ask in (run.surface, lambda: run.rule, run.family):
        with pytest.raises(InsufficientTrials):
            ask()
    assert run.status()["leaders"] == []
    document = run.to_json()
    assert (document["rule"], document["family"], document["signal"]) == (None, [], None)
    json.dumps(document, allow_nan=False)
    finish(run)
    assert names(tmp_path) == sorted([*TABLES, "report.html", "study.db", "study.toml"])
    assert "No candidate has finished" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_failed_trials_are_in_the_tables_and_out_of_the_rule(tmp_path: Path) -> None:
    failing = make_plan(planted_study()).trials[2].candidate.spec
    reason = Failure("out-of-memory", "RESOURCE_EXHAUSTED")
    run = planted_run(tmp_path, fail=lambda candidate: reason if candidate.spec == failing else None)
    assert run.failed == 1
    assert run.candidates["status"].tolist() == ["done"] * 14 + ["failed"]
    assert run.surface().n == 14
    assert run.status()["trials"]["failed"] == 1
    assert all(leader["status"] == "done" for leader in run.status()["leaders"])
    json.dumps(run.to_json(), allow_nan=False)


def test_where_all_fail_the_tables_say_why_and_there_is_no_rule(tmp_path: Path) -> None:
    run = planted_run(tmp_path, fail=lambda candidate: Failure("diverged", "loss must stay finite"))
    finish(run)
    assert names(tmp_path) == sorted([*TABLES, "report.html", "study.db", "study.toml"])
    assert "diverged: loss must stay finite" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert read_table(tmp_path / "candidates.csv")["failure"].unique().tolist() == ["diverged: loss must stay finite"]
    assert run.to_json()["rule"] is None


def test_a_report_that_fails_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planted_run(tmp_path)
    finish(run)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*arguments: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("scalesearch.report.html.render", fail)
    with pytest.raises(OSError, match="disk full"):
        finish(load(tmp_path))
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in FILES if name != "coefficients.json")


def test_figures_are_plotly_objects(tmp_path: Path) -> None:
    import plotly.graph_objects as go

    run = planted_run(tmp_path)
    figures = (
        run.triangle(), run.leaderboard(), run.learning_curves(), run.error_distribution(), run.accuracy_over("macs"),
    )  # fmt: skip
    assert not run.validation_over_macs().data  # nothing is validated
    for figure in figures:
        assert isinstance(figure, go.Figure)
        assert figure.data


def test_load_is_at_the_top_of_the_package_and_takes_a_string(tmp_path: Path) -> None:
    planted_run(tmp_path, most=1)
    run = scalesearch.load(str(tmp_path))
    assert isinstance(run, scalesearch.Run)
    assert run.study == planted_study()
    with pytest.raises(AttributeError, match="no attribute 'unload'"):
        _ = scalesearch.unload  # type: ignore[attr-defined]


def test_a_folder_that_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run there"):
        load(tmp_path)
    save_study(tmp_path, planted_study())
    with pytest.raises(InputError, match="no study.db there yet"):
        load(tmp_path)
    assert names(tmp_path) == ["study.toml"]
    open_storage(sqlite_url(tmp_path))
    with pytest.raises(StorageError, match="no study called 'planted'"):
        load(tmp_path)


def test_what_a_running_study_holds_is_read_at_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks a trial may end: then counts and records would contradict each other."""
    planted_run(tmp_path, most=9)
    looks: list[StoredStudy] = []
    get_trials = StoredStudy.get_trials

    def counted(study: StoredStudy, *arguments: Any, **options: Any) -> Any:
        looks.append(study)
        return get_trials(study, *arguments, **options)

    monkeypatch.setattr(StoredStudy, "get_trials", counted)
    run = load(tmp_path)
    assert len(looks) == 1
    assert run.states["complete"] == len(run.records) == 9


def test_the_reference_is_read_shown_and_no_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = planted_run(tmp_path, reference=planted_evaluate(PlantedSurface()))
    assert run.reference is not None
    assert (run.reference.phi, run.reference.candidate.spec) == (0.0, run.study.resolved_baseline().spec)
    assert [seed.seed for seed in run.reference.seeds] == [0, 1]
    assert (len(run.records), run.states["complete"], len(run.candidates)) == (15, 15, 15)
    finish(run)
    assert names(tmp_path) == sorted([*FILES, "reference.json"])
    written = json.loads((tmp_path / "reference.json").read_text(encoding="utf-8"))
    document = run.to_json()
    assert written == {key: document[key] for key in ("reference", "standing")}
    reference = written["reference"]
    assert (reference["name"], reference["macs_ratio"], reference["seeds"]) == ("planted", 1.0, 2)
    assert reference["val_loss"] == pytest.approx(run.reference.mean("val_loss"))
    assert reference["val_loss"] == pytest.approx(written["standing"]["baseline"])
    assert written["standing"]["state"] == "sound"
    assert run.rule.provenance["standing"] == written["standing"]
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert '<th scope="row">base</th>' in page
    assert f'<p class="plain">{run.standing.answer}</p>' in page
    assert f"The baseline has {reference['val_loss']:.4f}." in page
    assert "the baseline from " in page
    capsys.readouterr()
    show_result(run, run.files())
    out = capsys.readouterr().out
    assert re.search(rf"^base .* {reference['val_loss']:.4f} .* baseline: 10-14 × 24-40 at 96 px", out, re.MULTILINE)
    assert f"\n{run.standing.answer}\n" in out


def test_a_doubt_about_the_candidates_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    better = PlantedSurface(linear=(0.01, 0.01, 0.01), interaction=(0.0, 0.0, 0.0), macs_effect=0.0)
    run = planted_run(tmp_path, reference=planted_evaluate(better))
    doubt = run.standing.answer
    assert "the best candidate is worse than the baseline" in doubt
    finish(run)
    assert answers(run)[0] == doubt
    assert note(run).splitlines()[2] == f"**{doubt}**"
    show_result(run, run.files())
    assert capsys.readouterr().out.startswith(doubt)
    assert main(["export", str(tmp_path)]) == 0
    assert f"scalesearch: {doubt}\n" in capsys.readouterr().err


def test_where_nothing_was_learned_there_is_no_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = planted_run(tmp_path, PlantedSurface(linear=(2.9, 3.0, 3.1)), reference=planted_evaluate(PlantedSurface()))
    for name in ("coefficients.json", "region.csv"):
        shutil.copy(OLD_RUN / "trials.csv", tmp_path / name)  # what an earlier run left
    told = "Nothing was learned: no candidate's validation loss is below ln 10 = 2.303"
    assert main(["report", str(tmp_path)]) == 5
    out = capsys.readouterr().out
    assert out.startswith(told)
    assert "Choice" not in out
    assert names(tmp_path) == sorted([*TABLES, "reference.json", "report.html", "study.db", "study.toml"])
    assert told in html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    document = run.to_json()
    assert (document["rule"], document["nearest"], document["family"]) == (None, None, [])
    assert document["standing"]["state"] == "nothing learned"
    assert told in note(run)
    for ask in (lambda: run.rule, run.family):
        with pytest.raises(NothingLearned, match="Nothing was learned"):
            ask()
    for command in ("export", "scale", "explain", "validate"):
        assert main([command, str(tmp_path)]) == 2
        line = capsys.readouterr().err
        assert (line.count("\n"), told[1:] in line) == (1, True), line


# A run of the default study as version 0.1 left it; its report.html, five megabytes, is not kept.
OLD_RUN = Path(__file__).parents[1] / "golden" / "run_0_1"


def test_a_run_of_version_0_1_loads_and_gives_the_same_coefficients_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(OLD_RUN, folder)
    before = json.loads((folder / "coefficients.json").read_text(encoding="utf-8"))
    run = load(folder)
    letters = ("alpha", "beta", "gamma")
    assert [getattr(run.rule, name).hex() for name in letters] == [before[name].hex() for name in letters]
    assert (run.rule.resolved, run.rule.provenance["trials"]) == (before["resolved"], before["provenance"]["trials"])
    assert run.rule.provenance["fingerprint"] == before["provenance"]["fingerprint"]
    assert main(["status", str(folder)]) == 0
    assert "mnist_sample: 15 trials complete, 0 failed" in capsys.readouterr().out
    assert main(["report", str(folder), "--json"]) == 0
    rule = json.loads(capsys.readouterr().out)["rule"]
    written = json.loads((folder / "coefficients.json").read_text(encoding="utf-8"))
    for document in (rule, written):
        assert [document[name].hex() for name in letters] == [before[name].hex() for name in letters]
    assert "mnist_sample" in (folder / "report.html").read_text(encoding="utf-8")
    for name in TABLES:
        pd.testing.assert_frame_equal(read_table(folder / name), read_table(OLD_RUN / name))
