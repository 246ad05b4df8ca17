"""Pruning on planted surfaces: the lesser half stops early, only whole candidates are compared, nothing comes twice."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from scalesearch.baselines.efficientnet import PAPER
from scalesearch.errors import StudyMismatch
from scalesearch.results.load import Run, load
from scalesearch.results.records import TrialRecord
from scalesearch.results.save import save_study
from scalesearch.scaling.coefficients import shares_of
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import UNPRUNED, halvings, make_plan
from scalesearch.search.plan.parts import parts_of
from scalesearch.search.plan.rivals import validation_study
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import Evaluate, work
from scalesearch.study.sections import Study
from scalesearch.training.loop import EpochReport
from tests.planted import EPOCHS, PlantedSurface, claim, planted_evaluate, planted_study, watched

PRUNING = planted_study(prune=True, seeds=4)
PLAN = make_plan(PRUNING)
MANY = planted_study(prune=True, seeds=4, design={"degree": 8})
EVALUATE = planted_evaluate(PlantedSurface(), noise_sd=0.005)


def searched(url: str, evaluate: Evaluate = EVALUATE, config: Study = PRUNING) -> optuna.Study:
    study, plan = studies.open_study(open_storage(url), config, "digest"), make_plan(config)
    studies.enqueue_missing(study, plan.distinct)
    work(study, config, plan, evaluate)
    return study


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pruning")
    searched(sqlite_url(folder), config=MANY)
    save_study(folder, MANY)
    return load(folder)


def epochs(record: TrialRecord) -> int:
    return sum(len(seed.train_loss) for seed in record.seeds)


def test_it_halves_twice_and_keeps_what_was_trained(run: Run) -> None:
    size = len(make_plan(MANY).distinct)
    assert (halvings(PRUNING, PLAN), halvings(MANY, make_plan(MANY))) == (1, 2)
    assert run.states["complete"] + run.states["pruned"] == size > 4 * UNPRUNED
    assert Counter(map(epochs, run.records)).keys() == {3, 6, 12}  # of 4 seeds × 3 epochs
    assert UNPRUNED <= run.states["complete"] <= size / 2
    assert sum(map(epochs, run.records)) < 0.7 * size * 4 * EPOCHS
    pruned = [record for record in run.records if record.status == "pruned"]
    assert all(
        record.failure and record.failure.reason == f"after {epochs(record)} epochs of 4 seeds × 3 epochs"
        for record in pruned
    )
    assert run.failed == 0


def test_only_whole_candidates_are_compared_and_the_best_are_among_them(run: Run) -> None:
    done = run.candidates[run.candidates["status"].eq("done")]
    assert len(done) == run.states["complete"]
    assert set(done["seeds"]) == {4}
    assert run.choice.surface is not None
    assert run.choice.surface.n == len(done)
    whole = [EVALUATE(trial.candidate, trial.seeds) for trial in make_plan(MANY).distinct]
    best = sorted(whole, key=lambda record: record.mean("val_loss"))[:3]
    finished = {record.candidate.spec for record in run.records if record.status == "done"}
    assert {record.candidate.spec for record in best} <= finished
    truth = [PlantedSurface().at(record.candidate.shares, 2.0) for record in run.records if record.status == "pruned"]
    assert np.mean(truth) > PlantedSurface().at(run.choice.shares, 2.0)


def test_a_resumed_search_trains_no_pruned_candidate_again(tmp_path: Path) -> None:
    asked: list[Candidate] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Any) -> TrialRecord:
        asked.append(candidate)
        if len(asked) == 9:
            raise KeyboardInterrupt
        return EVALUATE(candidate, seeds, watch)

    with pytest.raises(KeyboardInterrupt):
        searched(sqlite_url(tmp_path), evaluate)
    study = searched(sqlite_url(tmp_path), evaluate)
    times = Counter(candidate.spec for candidate in asked)
    assert times.pop(asked[8].spec) == 2
    assert set(times.values()) == {1}
    assert len(studies.records(study)) == len(PLAN.distinct)
    searched(sqlite_url(tmp_path), evaluate)
    assert len(asked) == len(PLAN.distinct) + 1


def test_a_trial_that_was_to_be_pruned_when_its_worker_died_is_pruned_there_again(tmp_path: Path) -> None:
    config = planted_study(prune=True, design={"degree": 2})
    url = sqlite_url(tmp_path)

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Any) -> TrialRecord:
        record = EVALUATE(candidate, seeds, watch)
        if record.status == "pruned":
            raise SystemExit  # no interrupt: the trial is not given back
        return record

    with pytest.raises(SystemExit):
        searched(url, evaluate, config)
    other = tmp_path / "undisturbed"
    other.mkdir()
    assert studies.records(searched(url, config=config)) == studies.records(searched(sqlite_url(other), config=config))


def test_a_superfluous_trial_is_not_a_pruned_candidate(tmp_path: Path) -> None:
    config = planted_study(prune=True, design={"degree": 1})
    study, plan = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest"), make_plan(config)
    for trial in (*plan.distinct, *plan.distinct):
        studies.enqueue(study, trial.candidate, trial.seeds, planned=True)
    work(study, config, plan, EVALUATE)
    states = studies.count_states(study)
    assert sum(trial.state == TrialState.PRUNED for trial in study.trials) == 3 + states["pruned"]
    assert states["complete"] + states["pruned"] == len(studies.records(study)) == 3


def test_what_is_too_few_for_a_surface_says_so(tmp_path: Path) -> None:
    config = planted_study(prune=True, design={"degree": 3})
    searched(sqlite_url(tmp_path), config=config)
    save_study(tmp_path, config)
    choice = load(tmp_path).choice
    assert choice.surface is None
    assert "best of 5 candidates, because" in choice.basis
    assert "needs 8 candidates with distinct shares, but got 5" in choice.basis


def test_workers_prune_by_the_trials_of_all_and_evaluate_none_twice(storage_url: str) -> None:
    asked: list[Candidate] = []
    errors: list[BaseException] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Any) -> TrialRecord:
        asked.append(candidate)
        return EVALUATE(candidate, seeds, watch)

    def join() -> None:
        try:
            joined = studies.join_study(open_storage(storage_url), "planted")
            work(joined, PRUNING, PLAN, evaluate, poll_seconds=0.05)
        except BaseException as error:
            errors.append(error)

    study = studies.open_study(open_storage(storage_url), PRUNING, "digest")
    studies.enqueue_missing(study, PLAN.distinct)
    threads = [threading.Thread(target=join) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Counter(c.spec for c in asked) == Counter(trial.candidate.spec for trial in PLAN.distinct)
    states = studies.count_states(study)
    assert states["complete"] + states["pruned"] == len(PLAN.distinct)
    assert states["pruned"] >= 3  # of half of 15: which ones depends on who comes first


def test_an_adaptive_search_counts_pruned_trials(tmp_path: Path) -> None:
    config = planted_study(prune=True, design={"kind": "tpe", "size": 20})
    study = searched(sqlite_url(tmp_path), config=config)
    records = studies.records(study)
    assert len({record.candidate.spec for record in records}) == len(records) == 20
    assert 0 < studies.count_states(study)["pruned"] < 16


def reported(study: optuna.Study, together: bool) -> list[dict[int, float]]:
    """What each trial reports where nothing is pruned."""
    planted = planted_evaluate(PlantedSurface())

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Any) -> TrialRecord:
        def on(report: EpochReport) -> bool:
            watch(report)
            return False

        return watched(planted(candidate, seeds), on, together=together)

    config = planted_study(prune=True, design={"degree": 1})
    plan = make_plan(config)
    studies.enqueue_missing(study, plan.distinct)
    work(study, config, plan, evaluate)
    return [trial.intermediate_values for trial in study.trials]


@pytest.mark.parametrize("together", [False, True])
def test_a_step_holds_as_many_epochs_of_each_candidate(tmp_path: Path, together: bool) -> None:
    config = planted_study(prune=True, design={"degree": 1})
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    for values, record in zip(reported(study, together), studies.records(study), strict=True):
        first, second = (seed.val_loss_curve for seed in record.seeds)
        means = [(one + other) / 2 for one, other in zip(first, second, strict=True)]
        in_turn = [*first, *((first[-1] + value) / 2 for value in second)]
        wanted = {2: means[0], 4: means[1], 6: means[2]} if together else dict(enumerate(in_turn, start=1))
        assert values == pytest.approx(wanted)


@pytest.mark.parametrize("alike", [True, False])
def test_seeds_side_by_side_are_not_compared_with_seeds_in_turn(tmp_path: Path, alike: bool) -> None:
    """Side by side after step 8 is epoch 2 of each seed; in turn it is epoch 2 of seed 2."""
    planted = planted_evaluate(PlantedSurface())

    def mixed(candidate: Candidate, seeds: tuple[int, ...], watch: Any) -> TrialRecord:
        together = not alike and candidate == PLAN.distinct[0].candidate
        return watched(planted(candidate, seeds), watch, together=together)

    states = studies.count_states(searched(sqlite_url(tmp_path), mixed))
    assert (states["pruned"] > 0) is alike


def test_the_trial_of_a_worker_that_lost_it_counts_for_nothing(tmp_path: Path) -> None:
    study = studies.open_study(open_storage(sqlite_url(tmp_path)), PRUNING, "digest")
    studies.enqueue_missing(study, PLAN.distinct)
    trial = claim(study)
    trial.report(0.1, 1)
    study.tell(trial, state=TrialState.FAIL)
    assert studies.count_states(study)["pruned"] == 0
    assert studies.enqueue_missing(study, PLAN.distinct) == 1


def test_off_it_is_no_part_of_the_identity_so_that_studies_go_on(tmp_path: Path) -> None:
    assert "prune" not in planted_study().identity()
    assert PRUNING.identity()["prune"] is True
    storage = open_storage(sqlite_url(tmp_path))
    studies.open_study(storage, planted_study(), "digest")
    studies.open_study(storage, planted_study(prune=False), "digest")
    with pytest.raises(StudyMismatch, match="`prune` was not set, now True"):
        studies.open_study(storage, planted_study(prune=True), "digest")


def test_shorter_schedules_and_validations_prune_nothing_and_levels_do() -> None:
    study = planted_study(prune=True, phi=[1.0, 2.0], rungs=[2])
    assert [part.study.prune for part in parts_of(study)] == [True, True, False]
    assert not validation_study(study, shares_of(PAPER), 2.0, 3).prune


def test_candidates_come_in_an_order_of_no_meaning() -> None:
    whole = make_plan(planted_study(seeds=4))
    assert set(PLAN.trials) == set(whole.trials)
    assert PLAN.trials != whole.trials
    assert make_plan(PRUNING) == PLAN
