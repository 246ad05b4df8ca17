"""Adaptive searches and whole ones on a planted surface: distinct feasible networks, resumed, and the optimum found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from scalesearch.analysis.choice import choose
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.records import TrialRecord
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.feasible import Candidate, feasible_set
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.storage import sqlite_url
from tests.planted import PlantedSurface, planted_evaluate, planted_study
from tests.search.test_worker import SEARCH_SPACE, Counting, run


def tpe(tmp_path: Path, name: str, size: int = 12, **changes: Any) -> tuple[list[Candidate], optuna.Study]:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    evaluate = Counting()
    study = run(sqlite_url(folder), planted_study(design={"kind": "tpe", "size": size}, **changes), evaluate)
    return evaluate.candidates, study


def test_an_adaptive_search_is_deterministic_feasible_and_repeats_no_network(tmp_path: Path) -> None:
    first, study = tpe(tmp_path, "one")
    second, _ = tpe(tmp_path, "two")
    assert [candidate.spec for candidate in first] == [candidate.spec for candidate in second]
    assert len({candidate.spec for candidate in first}) == 12
    assert all(abs(candidate.cost_ratio / 2 - 1) <= 0.02 for candidate in first)
    assert all(trial.distributions == SEARCH_SPACE for trial in study.trials)
    again = Counting()
    run(sqlite_url(tmp_path / "one"), planted_study(design={"kind": "tpe", "size": 12}), again)
    assert again.candidates == []


def test_an_interrupted_adaptive_search_draws_nothing_twice(tmp_path: Path) -> None:
    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        if len(counting.candidates) == 4:
            raise KeyboardInterrupt
        return planted_evaluate(PlantedSurface())(candidate, seeds)

    counting = Counting(evaluate)
    config = planted_study(design={"kind": "tpe", "size": 9})
    with pytest.raises(KeyboardInterrupt):
        run(sqlite_url(tmp_path), config, counting)
    study = run(sqlite_url(tmp_path), config, Counting())
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 9, "pruned": 0, "failed": 0}
    drawn = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(drawn)) == len(drawn) == 9  # the interrupted one goes on as it was


def test_an_adaptive_search_ends_where_no_network_is_left(tmp_path: Path) -> None:
    config = planted_study(tolerance=0.0001, design={"kind": "tpe", "size": 10_000})
    baseline = config.resolved_baseline()
    there_are = len(feasible_set(baseline.spec, baseline.rounding, config.budget, config.tolerance).without_twins())
    assert 1 < there_are < 30
    evaluate = Counting()
    run(sqlite_url(tmp_path), config, evaluate)
    assert len({candidate.spec for candidate in evaluate.candidates}) == len(evaluate.candidates) == there_are


@pytest.mark.long
def test_an_adaptive_search_gathers_near_the_planted_optimum(tmp_path: Path) -> None:
    candidates, _ = tpe(tmp_path, "one", size=30)
    surface = PlantedSurface()
    losses = [surface.at(candidate.shares, 2.0) for candidate in candidates]
    # The first third is drawn at random; the last third should be better on average, or adapting is worth nothing.
    assert sum(losses[20:]) / 10 < sum(losses[:10]) / 10


def test_the_planted_optimum_is_found(tmp_path: Path) -> None:
    surface = PlantedSurface()
    config = planted_study(seeds=3)
    study = run(sqlite_url(tmp_path), config, planted_evaluate(surface, seed_sd=0.01, noise_sd=0.002))
    records = studies.records(study)
    choice = choose(trials_table(records), candidates_table(records, 2.0, "val_loss"), 2.0, "val_loss")
    assert choice.surface is not None
    steps = [i / 200 for i in range(201)]
    best = min(
        (surface.at(shares, 2.0), shares.values)
        for d in steps for w in steps if d + w <= 1 + 1e-12
        for shares in [type(choice.shares)(d, w, max(0.0, 1 - d - w))]
    )  # fmt: skip
    # Noise of a mean is 0.002/√3 ≈ 0.0012; over 15 points the surface's own error at its optimum is about half of
    # that. With a curvature of ≈ 0.36 a loss within 0.002 of the best is a point within √(2 · 0.002 / 0.36) ≈ 0.1.
    assert surface.at(choice.shares, 2.0) - best[0] < 0.002
    assert choice.shares.values == pytest.approx(best[1], abs=0.1)
    assert choice.signal.resolved
    assert coefficients_of(choice.shares, 2.0).product == pytest.approx(2.0, abs=1e-9)


def test_a_superfluous_trial_that_was_given_back_does_not_wait_for_ever(tmp_path: Path) -> None:
    """As of a worker that was killed after it had begun one more than the study asks for."""
    config = planted_study(design={"kind": "tpe", "size": 5})
    study = run(sqlite_url(tmp_path), config, Counting())
    for _ in range(2):
        trial_id = study.storage.create_new_trial(study.study_id)
        study.storage.set_trial_state_values(trial_id, TrialState.WAITING)
    evaluate = Counting()
    study = run(sqlite_url(tmp_path), config, evaluate)
    assert evaluate.candidates == []
    assert studies.count_states(study) == {"waiting": 0, "running": 0, "complete": 5, "pruned": 0, "failed": 0}
