"""Stored studies of earlier versions open, resume and are reported; one of a newer version is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scalesearch.errors import StudyMismatch
from scalesearch.results.load import load
from scalesearch.results.save import finish
from scalesearch.scaling.coefficients import shares_of
from scalesearch.search.engine import init
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.planned import plan_for
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


def test_a_study_with_shares_of_multipliers_ends_as_it_was_planned(tmp_path: Path) -> None:
    """Three of its six candidates were trained. The plan of today has other networks."""
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "run_before_costs", folder)
    with pytest.warns(UserWarning, match="read shares off α, β and γ, .* is trained to the end"):
        config = init(folder / "study.toml", storage=sqlite_url(folder))
    study = studies.join_study(open_storage(sqlite_url(folder)), config.name)
    queued = {trial.candidate.spec: trial for trial in plan_for(study, config).distinct}
    assert len(queued.keys() - {trial.candidate.spec for trial in make_plan(config).distinct}) == 2
    evaluate = Counting()
    work(study, config, plan_for(study, config), evaluate)
    assert len(evaluate.candidates) == 3
    run = load(folder)
    finish(run)
    assert run.states == {"waiting": 0, "running": 0, "complete": 6, "pruned": 0, "failed": 0}
    assert {record.candidate.spec for record in run.records} == queued.keys()
    for record in run.records:
        expected = shares_of(record.candidate.coefficients)
        assert record.candidate.shares.values == pytest.approx(expected.values, abs=1e-12)
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("changes", [{"seeds": 3}, {"design": {"degree": 3}}, {"phi": [1.0, 2.0]}], ids=str)
def test_a_study_with_shares_of_multipliers_gets_no_further_candidates(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "run_before_costs", folder)
    with pytest.raises(StudyMismatch, match="it can train what it has planned, but no further candidates"):
        init(folder / "study.toml", storage=sqlite_url(folder), **changes)
    with pytest.warns(UserWarning, match="is trained to the end"):
        init(folder / "study.toml", storage=sqlite_url(folder))  # as before


def test_a_study_of_a_newer_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), planted_study(), "digest")
    study.set_user_attr("schema", studies.SCHEMA_VERSION + 1)
    with pytest.raises(StudyMismatch, match=r"made by a newer version .* \(its schema is \d, .* up to \d\): upgrade"):
        studies.open_study(open_storage(sqlite_url(tmp_path)), planted_study(), "digest")
