"""The command validate: real trainings on the test split, resumed, reported; and what it refuses."""

import json
from pathlib import Path

import pandas as pd
import pytest

from scalesearch.analysis.validation import COLUMNS, Validation, save_validation
from scalesearch.cli.main import main
from scalesearch.data.splits import load_splits
from scalesearch.results.load import load
from scalesearch.search.plan.rivals import RIVALS, RULE, validation_study
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from tests.cli.tiny import TINY, complaint, scalesearch
from tests.planted import planted_run


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of the tiny study and its validation at φ = 1, as a user would make them."""
    folder = tmp_path_factory.mktemp("validated")
    study = folder / "tiny.toml"
    study.write_text(TINY, encoding="utf-8")
    assert scalesearch("run", "--study", study, "--out", folder / "run").returncode == 0
    done = scalesearch("validate", folder / "run", "--phi", "1")
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


@pytest.mark.slow
def test_every_rival_trains_at_equal_macs_and_the_verdict_is_written(validated: tuple[Path, str]) -> None:
    folder, told = validated
    run = load(folder)
    (found,) = run.validations
    assert (found.phi, found.budget, found.data_digest) == (1.0, 2.0, run.fingerprint["data.digest"])
    assert list(found.table.columns) == list(COLUMNS)
    named = [name.removeprefix("≈ ") for row in found.table["rivals"] for name in row.split(", ")]
    assert sorted(named) == sorted([RULE, *RIVALS])
    assert (found.table["macs_ratio"] / 2 - 1).abs().max() <= run.study.tolerance
    assert found.verdict in " ".join(told.split())
    assert "Validation at φ = 1" in told
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Validation at φ = 1, on the test split" in page
    assert "figure-validation-1" in page


@pytest.mark.slow
def test_it_is_the_test_split_that_is_read(validated: tuple[Path, str]) -> None:
    """Accuracies are whole numbers of the 100 test images; the search's own study is as it was."""
    folder, _ = validated
    config = load(folder).study
    assert len(load_splits(config.data).test) == 100 == len(load_splits(config.data).validation)
    name = validation_study(config, load(folder).choice.shares, 1, config.seeds).name
    stored = studies.join_study(open_storage(sqlite_url(folder)), name)
    own = {record.candidate.spec: record for record in load(folder).records}
    shared = [record for record in studies.records(stored) if record.candidate.spec in own]
    assert shared  # a network of the search trains again, the same way, but is judged on other images
    for record in shared:
        before = own[record.candidate.spec]
        assert [seed.train_loss for seed in record.seeds] == [seed.train_loss for seed in before.seeds]
        assert [seed.val_loss for seed in record.seeds] != [seed.val_loss for seed in before.seeds]


@pytest.mark.slow
def test_again_it_trains_nothing_and_prints_json(
    validated: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = validated
    assert main(["validate", str(folder), "--phi", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "nothing to train" in err
    (document,) = json.loads(out)
    assert document == json.loads((folder / "validation.json").read_text(encoding="utf-8"))[0]
    assert document["table"][0]["verdict"] == ""


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half, whole = tmp_path / "half", tmp_path / "whole"
    for folder in (half, whole):
        folder.mkdir()
    planted_run(half, most=5)
    planted_run(whole)
    assert "the search has no final rule yet" in complaint(capsys, "validate", half)
    assert "`phi` must be above 0" in complaint(capsys, "validate", whole, "--phi", "0:2")
    assert "`phi` must be numbers or ranges" in complaint(capsys, "validate", whole, "--phi", "two")
    assert "must be above 1 and at most 100,000" in complaint(capsys, "validate", whole, "--phi", "2000")
    assert "`seeds` must be at most 1000, but got 5000" in complaint(capsys, "validate", whole, "--seeds", "5000")
    assert "no run there" in complaint(capsys, "validate", tmp_path / "nowhere")
    # The planted run's data are not those of its study file.
    assert "are not those that the rule was found with" in complaint(capsys, "validate", whole, code=3)


def test_fewer_seeds_do_not_replace_what_more_have_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted_run(tmp_path)
    table = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    table.loc[0, ["rivals", "seeds"]] = [RULE, 5]
    save_validation(tmp_path, Validation(1.0, 2.0, "2026-01-02", "digest", "", table))
    before = (tmp_path / "validation.json").read_bytes()
    told = complaint(capsys, "validate", tmp_path, "--phi", "1", "--seeds", "4")
    assert "φ = 1 is validated with 5 seeds already: --seeds must be at least that" in told
    assert (tmp_path / "validation.json").read_bytes() == before


@pytest.mark.parametrize("text", ["{", "[1]", '[{"phi": 1}]'])
def test_a_validation_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    planted_run(tmp_path)
    (tmp_path / "validation.json").write_text(text, encoding="utf-8")
    assert "validation.json: not what `validate` writes" in complaint(capsys, "report", tmp_path)
