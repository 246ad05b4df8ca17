"""`init` makes a study, `worker` trains all of it, `run` collects the result."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalesearch.cli.main import main
from scalesearch.results.load import load
from scalesearch.search.queue.optuna_study import count_states, join_study
from scalesearch.search.queue.storage import open_storage, sqlite_url, study_names
from tests.cli.tiny import TINY


@pytest.mark.slow
def test_a_study_is_made_once_trained_by_workers_and_collected_by_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, url = tmp_path / "tiny.toml", sqlite_url(tmp_path)
    file.write_text(TINY.replace("seeds = 2", "seeds = 1\nphi = [1, 1.5]"), encoding="utf-8")
    study = ["--study", str(file), "--storage", url]
    worker = ["worker", "--storage", url, "--study-name", "tiny"]
    assert main(worker) == 4  # workers never create tables
    assert "there is no storage" in capsys.readouterr().err
    assert main(["init", *study]) == 0
    assert "scalesearch worker --storage URL --study-name tiny\n" in capsys.readouterr().out
    assert main(["init", *study]) == 0  # the same study: nothing changes

    assert main(worker) == 0
    said = capsys.readouterr().err
    assert said.count("val_loss") == 7  # the baseline, and three candidates at each of two levels
    assert main(["run", *study, "--out", str(tmp_path / "out"), "--json"]) in (0, 5)  # 5: nothing was learned
    said = capsys.readouterr().err
    assert said.count("nothing to train") == 2
    run = load(tmp_path / "out")
    assert run.states == {"waiting": 0, "running": 0, "complete": 6, "pruned": 0, "failed": 0}
    assert run.reference is not None


def test_init_queues_all_trials_and_another_study_of_the_same_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY, encoding="utf-8")
    study = ["init", "--study", str(file), "--storage", sqlite_url(tmp_path)]
    assert main(study) == 0
    storage = open_storage(sqlite_url(tmp_path), read_only=True)
    waiting = {name: count_states(join_study(storage, name))["waiting"] for name in study_names(storage)}
    assert waiting == {"tiny": 3, "tiny-baseline": 1}
    assert main([*study, "--budget", "3"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "`budget` was 2.0, now 3.0" in line
