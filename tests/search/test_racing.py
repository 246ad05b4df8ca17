"""A race on planted surfaces: the same choice for fewer trainings, no training twice, and an end in every case."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

from scalesearch.analysis.choice import Choice, choose
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.load import load
from scalesearch.results.records import Failure, TrialRecord
from scalesearch.results.save import save_study
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import make_plan
from scalesearch.search.plan.racing import APART, LEAST, next_round
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.trials import has_record, task_of
from scalesearch.search.queue.work import Evaluate, work
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, planted_evaluate, planted_study

RACE = planted_study(race=True, seeds=3)
PLAN = make_plan(RACE)
NOISE = 0.008


def choice_of(records: list[TrialRecord]) -> Choice:
    return choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")


def raced(evaluate: Evaluate, study: Study = RACE) -> list[TrialRecord]:
    """All records of a race, evaluated round by round."""
    records = [evaluate(trial.candidate, trial.seeds) for trial in PLAN.distinct]
    while wanted := next_round(study, PLAN, records):
        records += [evaluate(trial.candidate, trial.seeds) for trial in wanted]
    return records


def trainings(records: list[TrialRecord]) -> int:
    return sum(len(record.seeds) for record in records)


def test_all_planned_candidates_start_with_the_same_seed() -> None:
    assert {trial.seeds for trial in PLAN.trials} == {(0,)}
    assert {trial.seeds for trial in make_plan(planted_study(seeds=3)).trials} == {(0, 1, 2)}


@pytest.mark.long
def test_half_of_the_trainings_lead_to_the_choice_of_all_of_them() -> None:
    distances, costs = [], []
    for key in range(8):
        evaluate = planted_evaluate(PlantedSurface(), noise_sd=NOISE, key=key)
        records = raced(evaluate)
        race, full = choice_of(records), choice_of([evaluate(t.candidate, (0, 1, 2)) for t in PLAN.distinct])
        assert race.signal.resolved
        assert race.may_be_optimum(np.array([full.shares.values]))[0]
        distances.append(math.dist(race.shares.values, full.shares.values))
        costs.append(trainings(records) / (3 * len(PLAN.distinct)))
    assert np.mean(costs) < 0.5
    assert np.mean(distances) < 0.05  # the spacing of the lattice is 0.35


def test_more_seeds_go_to_the_best_and_a_new_candidate_is_near_the_optimum() -> None:
    evaluate = planted_evaluate(PlantedSurface(), noise_sd=NOISE)
    records = [evaluate(trial.candidate, (0,)) for trial in PLAN.distinct]
    choice = choice_of(records)
    wanted = next_round(RACE, PLAN, records)
    again = [trial for trial in wanted if trial.seeds == (1,)]
    by_loss = sorted(records, key=lambda record: record.mean("val_loss"))
    assert {record.candidate.spec for record in by_loss[:LEAST]} <= {trial.candidate.spec for trial in again}
    assert LEAST <= len(again) <= len(PLAN.distinct) // 2
    (new,) = (trial for trial in wanted if trial.seeds == (0, 1))
    known = [record.candidate.shares.values for record in records]
    assert min(math.dist(new.candidate.shares.values, shares) for shares in known) >= APART
    assert abs(new.candidate.cost_ratio / 2 - 1) <= 0.02
    assert choice.region is not None
    assert np.linalg.norm(choice.region.points - new.candidate.shares.values, axis=1).min() <= APART


def test_a_race_that_is_not_resolved_costs_no_more_than_all_seeds_of_all_candidates() -> None:
    flat = PlantedSurface(linear=(0.5, 0.5, 0.5), interaction=(0.0, 0.0, 0.0), macs_effect=0.0)
    records = raced(planted_evaluate(flat, noise_sd=NOISE))
    assert trainings(records) <= 3 * len(PLAN.distinct)
    assert not choice_of(records).signal.resolved
    assert max(Counter(record.candidate.spec for record in records).values()) <= 3


def test_failed_candidates_are_not_tried_again() -> None:
    failing = {trial.candidate.spec for trial in PLAN.distinct[::4]}

    def fail(candidate: Candidate) -> Failure | None:
        return Failure("diverged", "loss must stay finite") if candidate.spec in failing else None

    records = raced(planted_evaluate(PlantedSurface(), noise_sd=NOISE, fail=fail))
    counts = Counter(record.candidate.spec for record in records)
    assert all(counts[spec] == 1 for spec in failing)


def test_if_nothing_finished_the_race_is_over() -> None:
    evaluate = planted_evaluate(PlantedSurface(), fail=lambda candidate: Failure("diverged", "loss must stay finite"))
    assert next_round(RACE, PLAN, [evaluate(trial.candidate, (0,)) for trial in PLAN.distinct]) == ()


def test_candidates_with_different_seeds_are_compared_without_seed_effects() -> None:
    """Seed 1 makes all losses 0.3 larger: raw means would put the candidates that have it last."""
    evaluate = planted_evaluate(PlantedSurface(macs_effect=0.0), seed_sd=0.0, noise_sd=0.0)

    def shifted(candidate: Candidate, seeds: tuple[int, ...]) -> TrialRecord:
        record = evaluate(candidate, seeds)
        seeds_shifted = tuple(
            dataclasses.replace(seed, val_loss_curve=(seed.val_loss + 0.3 * (seed.seed == 1),)) for seed in record.seeds
        )
        return dataclasses.replace(record, seeds=seeds_shifted)

    records = [shifted(trial.candidate, (0,)) for trial in PLAN.distinct]
    records += [shifted(trial.candidate, (1,)) for trial in PLAN.distinct[:5]]
    table = candidates_table(records, 2.0, "val_loss")
    assert table["seeds"].tolist().count(2) == 5
    truth = [PlantedSurface(macs_effect=0.0).at(record.candidate.shares, 2.0) for record in records[:15]]
    gaps = table.set_index("candidate")["val_loss"].sort_index().to_numpy() - np.array(truth)
    assert np.ptp(gaps) < 1e-12


class TestWork:
    """The race as workers run it."""

    def test_workers_fill_the_queue_until_the_race_is_over_and_a_resumed_race_continues(self, tmp_path: Path) -> None:
        planted = planted_evaluate(PlantedSurface(), noise_sd=NOISE)
        optuna_study = studies.open_study(open_storage(sqlite_url(tmp_path)), RACE, "digest")
        save_study(tmp_path, RACE)
        studies.enqueue_missing(optuna_study, PLAN.distinct)
        trials_left = iter(range(17))

        def interrupted(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
            if next(trials_left, None) is None:
                raise KeyboardInterrupt
            return planted(candidate, seeds)

        with pytest.raises(KeyboardInterrupt):
            work(optuna_study, RACE, PLAN, interrupted)
        assert studies.count_states(optuna_study)["complete"] == 17
        work(optuna_study, RACE, PLAN, planted)
        run = load(tmp_path)
        tasks = [task_of(trial) for trial in optuna_study.trials if has_record(trial)]
        assert len(set(tasks)) == len(tasks)
        assert trainings(list(run.records)) == trainings(raced(planted))
        assert run.choice.shares == choice_of(raced(planted)).shares
        assert run.rule.resolved
        work(optuna_study, RACE, PLAN, interrupted)  # nothing left to do

    def test_a_round_that_was_queued_in_part_is_completed_before_the_next(self, tmp_path: Path) -> None:
        planted = planted_evaluate(PlantedSurface(), noise_sd=NOISE)
        storage, ended = open_storage(sqlite_url(tmp_path)), list[int]()
        optuna_study = studies.open_study(storage, RACE, "digest")
        studies.enqueue_missing(optuna_study, PLAN.distinct)
        queued = iter(range(2))

        def die(connection: object, cursor: object, statement: str, *_: object) -> None:
            if len(ended) == len(PLAN.distinct) and statement.startswith("INSERT INTO trials") and next(queued):
                raise SystemExit

        event.listen(storage.engine, "before_cursor_execute", die)
        with pytest.raises(SystemExit):
            work(optuna_study, RACE, PLAN, planted, on_trial=lambda number, record: ended.append(number))
        again = studies.join_study(open_storage(sqlite_url(tmp_path)), RACE.name)
        assert len(again.trials) == len(PLAN.distinct) + 1
        work(again, RACE, PLAN, planted)
        assert list(studies.records(again)) == raced(planted)

    def test_no_trial_starts_that_would_end_after_the_deadline(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        planted = planted_evaluate(PlantedSurface(), noise_sd=NOISE)

        def slow(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
            now[0] += 10
            return planted(candidate, seeds)

        optuna_study = studies.open_study(open_storage(sqlite_url(tmp_path)), RACE, "digest")
        studies.enqueue_missing(optuna_study, PLAN.distinct)
        work(optuna_study, RACE, PLAN, slow, deadline=59.0)
        assert studies.count_states(optuna_study) == {
            "waiting": 10,
            "running": 0,
            "complete": 5,
            "pruned": 0,
            "failed": 0,
        }
