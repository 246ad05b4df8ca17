"""The Optuna study: its fingerprint, the queue that is filled once, and records that come back as they were."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial
from sqlalchemy import event

from scalesearch.errors import StorageError, StudyMismatch
from scalesearch.results.records import Failure
from scalesearch.scaling.coefficients import shares_of
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.planned import check_plan, plan_for, queued_plan
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.trials import next_waiting, task_of
from scalesearch.search.queue.work import work
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, claim, planted_evaluate, planted_study

OWN_STEM = {"stem": {"width": 18, "kernel_size": 3, "stride": 2}}


@pytest.mark.parametrize("changes", [{"training": {"epochs": 5}}, {"seeds": 1}])
def test_a_study_that_two_commands_made_at_once_with_different_settings_trains_neither(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    storage, study, other = open_storage(sqlite_url(tmp_path)), planted_study(), planted_study(**changes)
    begun: list[str] = []

    def make_other(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "fingerprint" in str(parameters) and statement.startswith("INSERT") and not begun:
            begun.append("before the last write")
            attributes = {"study": other.model_dump(mode="json"), "data_digest": "digest", "schema": 3}
            for key, value in attributes.items():
                cursor.execute(  # type: ignore[attr-defined]
                    "UPDATE study_user_attributes SET value_json = ? WHERE key = ?", (json.dumps(value), key)
                )

    event.listen(storage.engine, "before_cursor_execute", make_other)
    with pytest.raises(StudyMismatch, match="made with two settings, by two commands at once: run one of them again"):
        studies.open_study(storage, study, "digest")
    assert begun
    assert studies.study_of(studies.open_study(storage, study, "digest")) == study


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"budget": 3.0}, "budget"),
        ({"tolerance": 0.03}, "tolerance"),
        ({"seeds": 1}, "seeds"),
        ({"metric": "val_accuracy"}, "metric"),
        ({"baseline": {"resolution": 80}}, "baseline.resolution"),
        ({"baseline": OWN_STEM}, "baseline.stem"),
        ({"rounding": {"depth": "ceil"}}, "rounding.depth"),
        ({"rounding": {"head": "fixed"}}, "rounding.head"),
        ({"design": {"degree": 3}}, "design.degree"),
        ({"data": {"train": 200}}, "data.train"),
        ({"data": {"split_seed": 1}}, "data.split_seed"),
        ({"data": {"source": "npz:images.npz"}}, "data.source"),
        ({"training": {"epochs": 4}}, "training.epochs"),
        ({"training": {"learning_rate": 0.02}}, "training.learning_rate"),
        ({"training": {"optimizer": "sgd"}}, "training.optimizer"),
        ({"training": {"shift": 0.1}}, "training.shift"),
    ],
)
def test_another_setting_is_a_mismatch_that_names_it(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    study_before, other = planted_study(), planted_study(**changes)
    studies.open_study(storage, study_before, "digest")
    with pytest.raises(StudyMismatch, match=rf"`{key}` was .*, now ") as caught:
        studies.open_study(storage, other, "digest")
    assert "\n" not in str(caught.value)
    before, after = studies.fingerprint(study_before, "digest"), studies.fingerprint(other, "digest")
    assert {name for name in before | after if before.get(name) != after.get(name)} == {key}


def test_other_images_are_a_mismatch(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    studies.open_study(storage, planted_study(), "one")
    with pytest.raises(StudyMismatch, match=r"`data.digest` was one, now two"):
        studies.open_study(storage, planted_study(), "two")


def test_every_difference_is_named(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    studies.open_study(storage, planted_study(), "digest")
    other = planted_study(
        budget=3.0, tolerance=0.03, seeds=5, metric="val_accuracy", training={"epochs": 9, "flip": True}
    )
    with pytest.raises(StudyMismatch) as caught:
        studies.open_study(storage, other, "digest")
    for key in ("budget", "tolerance", "seeds", "metric", "training.epochs", "training.flip"):
        assert f"`{key}`" in str(caught.value)


def test_how_the_work_is_carried_out_changes_nothing(tmp_path: Path) -> None:
    study_before = planted_study()
    changed = study_before.model_copy(update={"name": "other"})
    assert studies.fingerprint(changed, "digest") == studies.fingerprint(study_before, "digest")
    native = planted_runtime(study_before)
    assert studies.fingerprint(native, "digest") == studies.fingerprint(study_before, "digest")
    storage = open_storage(sqlite_url(tmp_path))
    studies.open_study(storage, study_before, "digest")
    studies.open_study(storage, native, "digest")
    # Where a machine holds the data does not matter either: the digest identifies them.
    here, there = (planted_study(data={"source": f"npz:{place}.npz"}) for place in ("here", "there"))
    assert studies.fingerprint(here, "digest") == studies.fingerprint(there, "digest")


def planted_runtime(study: Study) -> Study:
    runtime = study.runtime.model_copy(update={"convolutions": "native", "seeds_together": True})
    return study.model_copy(update={"runtime": runtime})


def test_a_study_that_was_cut_short_while_it_was_made_is_finished(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    half = optuna.create_study(storage=storage, study_name="planted")
    with pytest.raises(StorageError, match="not made by scalesearch"):
        studies.join_study(storage, "planted")
    half.set_user_attr("study", planted_study().model_dump(mode="json"))
    study = studies.open_study(storage, planted_study(), "digest")
    assert studies.data_digest(study) == "digest"
    assert studies.fingerprint_of(study) == studies.fingerprint(planted_study(), "digest")
    assert studies.study_of(study) == planted_study()


def test_another_tools_study_is_left_alone(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    other = optuna.create_study(storage=storage, study_name="planted")
    other.add_trial(optuna.create_trial(value=1.0, params={}, distributions={}))
    for call in (
        lambda: studies.open_study(storage, planted_study(), "digest"),
        lambda: studies.join_study(storage, "planted"),
    ):
        with pytest.raises(StorageError, match="'planted' in .*study.db was not made by scalesearch"):
            call()
    assert len(other.trials) == 1
    assert not other.user_attrs


def test_a_name_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    with pytest.raises(StorageError, match="no study called 'planted' .*; there: none"):
        studies.join_study(storage, "planted")
    studies.open_study(storage, planted_study(), "digest")
    with pytest.raises(StorageError, match="no study called 'plant' .*; there: planted"):
        studies.join_study(storage, "plant")


def test_planned_trials_are_queued_once(tmp_path: Path) -> None:
    config = planted_study()
    planned = make_plan(config).distinct
    storage = open_storage(sqlite_url(tmp_path))
    study = studies.open_study(storage, config, "digest")
    assert studies.enqueue_missing(study, planned) == 15
    assert studies.enqueue_missing(study, planned) == 0
    shares = [trial.candidate.shares for trial in planned]
    parameters = [{"depth_share": share.depth_share, "width_fraction": share.width_fraction} for share in shares]
    assert [trial.params for trial in study.trials] == parameters  # nobody who claims one has to write them
    again = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    assert studies.enqueue_missing(again, planned) == 0
    assert studies.count_states(study) == {"waiting": 15, "running": 0, "complete": 0, "pruned": 0, "failed": 0}
    claim(study)
    assert studies.enqueue_missing(study, planned) == 0
    assert studies.count_states(study) == {"waiting": 14, "running": 1, "complete": 0, "pruned": 0, "failed": 0}
    # One that ended without a record, as an interrupted one does, is missing.
    study.tell(0, state=optuna.trial.TrialState.FAIL)
    assert studies.count_states(study) == {"waiting": 14, "running": 0, "complete": 0, "pruned": 0, "failed": 0}
    assert studies.enqueue_missing(study, planned) == 1
    tasks = [(trial.candidate.spec, (0, 1)) for trial in planned]
    assert [task_of(trial) for trial in study.trials] == [*tasks, tasks[0]]


def test_each_worker_expects_another_one_of_the_queue(tmp_path: Path) -> None:
    config = planted_study()
    planned = make_plan(config).distinct
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    studies.enqueue_missing(study, planned[:4])
    tasks = [(trial.candidate, trial.seeds) for trial in planned]

    def look() -> list[FrozenTrial]:
        return study.get_trials(deepcopy=False)

    before = look()
    first = claim(study)
    assert next_waiting(before, first, workers=1) == tasks[1]
    assert next_waiting(before, first, workers=2) == tasks[2]  # the other is about to take 1
    second = claim(study)
    assert next_waiting(before, second, workers=2) == tasks[3]  # and takes another while the first takes 2
    assert next_waiting(look(), second, workers=1) == tasks[3]  # whoever runs before it, of other machines too
    claim(study)
    assert next_waiting(look(), second, workers=2) is None


def test_networks_that_another_version_planned_are_a_mismatch(tmp_path: Path) -> None:
    config = planted_study()
    plan = make_plan(config)
    planned = plan.distinct
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    studies.enqueue_missing(study, planned)
    check_plan(study, config, plan)
    for other in (planned[:-1], (*planned[:-1], dataclasses.replace(planned[-1], seeds=(0,)))):
        with pytest.raises(StudyMismatch, match="planned by another version"):
            check_plan(study, config, dataclasses.replace(plan, trials=other))


@pytest.mark.parametrize("changes", [{"race": True}, {"design": {"kind": "tpe"}}], ids=str)
def test_a_search_that_plans_as_it_goes_takes_no_shares_of_an_earlier_version(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """Shares of α·β²·γ² and of real cost on one surface would mislead."""
    config = planted_study(**changes)
    plan = make_plan(planted_study())
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    for trial in plan.distinct:
        before = dataclasses.replace(trial.candidate, shares=shares_of(trial.candidate.coefficients))
        studies.enqueue(study, before, trial.seeds, planned=True)
    with pytest.raises(StudyMismatch, match="read shares off α, β and γ, not off real cost"):
        plan_for(study, config)


def test_records_come_back_as_they_were(storage_url: str) -> None:
    config = planted_study()
    plan = make_plan(config)
    failing = plan.trials[3].candidate.spec
    reason = Failure("diverged", "loss must stay finite, but „∞“ came in epoch 2\nof seed 0")
    evaluate = planted_evaluate(PlantedSurface(), fail=lambda c: reason if c.spec == failing else None)
    study = studies.open_study(open_storage(storage_url), config, "digest")
    studies.enqueue_missing(study, plan.trials)
    work(study, config, plan, evaluate)

    again = studies.join_study(open_storage(storage_url), config.name)
    expected = tuple(evaluate(trial.candidate, (0, 1)) for trial in plan.trials)
    assert studies.records(again) == expected
    assert studies.study_of(again) == config
    assert studies.fingerprint_of(again) == studies.fingerprint(config, "digest")
    for trial, record in zip(again.trials, expected, strict=True):
        shares = record.candidate.shares
        assert trial.params == {"depth_share": shares.depth_share, "width_fraction": shares.width_fraction}
        assert trial.user_attrs["macs"] == record.candidate.complexity.macs
        assert trial.user_attrs["alpha"] == record.candidate.coefficients.alpha
        assert trial.user_attrs["shares"] == dataclasses.asdict(shares)
        assert trial.value == (None if record.failure else record.mean("val_loss"))


def test_the_split_that_judges_is_stored_and_kept(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    searched = studies.open_study(storage, planted_study(), "digest")
    assert studies.evaluates_of(searched) == "validation"
    assert "evaluates" not in searched.user_attrs  # as in a study of an earlier version
    validated = studies.open_study(storage, planted_study(name="validation"), "digest", evaluates="test")
    assert studies.evaluates_of(studies.join_study(storage, "validation")) == "test"
    with pytest.raises(StudyMismatch, match="validates a rule on the test split"):
        studies.open_study(storage, planted_study(name="validation"), "digest")
    assert studies.evaluates_of(validated) == "test"


def test_a_validation_of_an_earlier_version_goes_on_with_the_test_split(tmp_path: Path) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    studies.open_study(storage, planted_study(), "digest")
    again = studies.open_study(storage, planted_study(), "digest", evaluates="test")
    assert studies.evaluates_of(again) == "test"


def test_a_queued_plan_is_what_was_queued(tmp_path: Path) -> None:
    config = planted_study(name="validation")
    planned = make_plan(planted_study(design={"degree": 3}))
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest", evaluates="test")
    studies.enqueue_missing(study, planned.distinct)
    plan = queued_plan(study, config)
    assert [(trial.candidate, trial.seeds) for trial in plan.trials] == [
        (trial.candidate, trial.seeds) for trial in planned.distinct
    ]
    assert (plan.baseline, plan.feasible) == (planned.baseline, planned.feasible)
    work(study, config, plan, planted_evaluate(PlantedSurface()))
    assert studies.count_states(study)["complete"] == len(planned.distinct)
    check_plan(study, config, queued_plan(study, config))
