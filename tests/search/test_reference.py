"""The reference of a search: one trial of the baseline, in a queue of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scalesearch.scaling.simplex import EQUAL
from scalesearch.search.plan.design import make_plan
from scalesearch.search.plan.reference import reference_plan, reference_seconds, reference_study
from scalesearch.search.plan.timing import predicted_seconds
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, claim, planted_evaluate, planted_study


@pytest.mark.parametrize("changes", [{}, {"race": True}, {"prune": True}, {"design": {"kind": "tpe"}}])
def test_it_is_the_baseline_with_all_seeds(changes: dict[str, object]) -> None:
    study = planted_study(seeds=3, **changes)
    own = reference_study(study)
    (trial,) = reference_plan(own).trials
    assert (own.name, own.race, own.prune, own.training) == ("planted-baseline", False, False, study.training)
    assert (trial.seeds, trial.candidate.spec) == ((0, 1, 2), study.resolved_baseline().spec)
    assert (trial.candidate.is_baseline, trial.candidate.cost_ratio, trial.candidate.shares) == (True, 1.0, EQUAL)


def test_no_planned_candidate_is_the_baseline() -> None:
    for study in (planted_study(), planted_study(design={"kind": "grid", "nominal": True, "step": 0.05})):
        assert not any(trial.candidate.is_baseline for trial in make_plan(study).trials)


def test_its_time_is_less_than_that_of_a_candidate() -> None:
    study = planted_study()
    one = predicted_seconds(study, [make_plan(study).trials[0].candidate])
    assert 0 < (reference_seconds(study) or 0.0) < (one or 0.0)
    unknown = study.model_copy(update={"data": study.data.model_copy(update={"train": 0})})
    assert reference_seconds(unknown) is None


@pytest.mark.parametrize("design", ["lattice", "tpe"])
def test_a_worker_trains_it_from_its_own_queue(tmp_path: Path, design: str) -> None:
    own = reference_study(planted_study(design={"kind": design}))
    optuna_study, ended = queued(tmp_path, own), []
    work(
        optuna_study,
        own,
        reference_plan(own),
        planted_evaluate(PlantedSurface()),
        on_trial=lambda number, record: ended.append(record),
    )
    (record,) = studies.records(optuna_study)
    assert ended == [record]
    assert record.candidate.is_baseline
    assert studies.enqueue_missing(optuna_study, reference_plan(own).distinct) == 0


def test_nobody_waits_for_one_that_another_worker_trains(tmp_path: Path) -> None:
    own = reference_study(planted_study())
    optuna_study = queued(tmp_path, own)
    claim(optuna_study)
    waits: list[int] = []
    arguments = (optuna_study, own, reference_plan(own), planted_evaluate(PlantedSurface()))
    work(*arguments, on_wait=waits.append, wait=False)
    assert waits == []


def queued(folder: Path, own: Study) -> studies.StoredStudy:
    optuna_study = studies.open_study(open_storage(sqlite_url(folder)), own, "digest")
    assert studies.enqueue_missing(optuna_study, reference_plan(own).distinct) == 1
    return optuna_study


def test_a_baseline_is_told_apart_by_what_has_not_grown() -> None:
    candidate = make_plan(planted_study()).trials[0].candidate
    assert not candidate.is_baseline
    assert dataclasses.replace(candidate, coefficients=candidate.coefficients**0).is_baseline
