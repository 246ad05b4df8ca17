"""Stored studies of earlier versions open, resume and are reported; one of a newer version is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scalesearch.errors import StudyMismatch
from scalesearch.results.load import load
from scalesearch.results.save import finish
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, planted_evaluate, planted_study
from tests.search.test_worker import Counting

GOLDEN = Path(__file__).parents[1] / "golden"


def test_a_study_with_optunas_heartbeats_resumes(tmp_path: Path) -> None:
    """It was left with two records, a trial that was interrupted and replaced, one that ran, and three that waited."""
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "run_before_leases", folder)
    config = planted_study(name="before-leases", design={"degree": 2})
    assert load(folder).states == {"waiting": 3, "running": 1, "complete": 2, "pruned": 0, "failed": 0}
    study = studies.open_study(open_storage(sqlite_url(folder)), config, "digest")
    plan = make_plan(config)
    assert studies.enqueue_missing(study, plan.distinct) == 0
    evaluate = Counting()
    work(study, config, plan, evaluate, poll_seconds=0.05, grace_seconds=0.2)
    assert len(evaluate.candidates) == 4
    run = load(folder)
    finish(run)
    assert run.states == {"waiting": 0, "running": 0, "complete": 6, "pruned": 0, "failed": 0}
    expected = planted_evaluate(PlantedSurface())
    planned = {trial.candidate.spec: trial for trial in plan.distinct}
    assert {record.candidate.spec for record in run.records} == planned.keys()
    for record in run.records:
        trial = planned[record.candidate.spec]
        assert record.seeds == expected(trial.candidate, trial.seeds).seeds
    assert (folder / "report.html").is_file()


def test_a_study_of_a_newer_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), planted_study(), "digest")
    study.set_user_attr("schema", studies.SCHEMA_VERSION + 1)
    with pytest.raises(StudyMismatch, match=r"made by a newer version .* \(its schema is \d, .* up to \d\): upgrade"):
        studies.open_study(open_storage(sqlite_url(tmp_path)), planted_study(), "digest")
