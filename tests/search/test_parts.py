"""The parts of a study: levels and rungs, each under a different name; one rule from all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scalesearch.analysis.schedule import warning
from scalesearch.results.load import Run, load
from scalesearch.results.save import save_study
from scalesearch.search.plan.design import make_plan
from scalesearch.search.plan.parts import parts_of
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, planted_evaluate, planted_study

SURFACES = {1.0: PlantedSurface(), 2.0: PlantedSurface(linear=(0.36, 0.30, 0.33), budget=4.0)}


def searched(folder: Path, study: Study, surfaces: dict[tuple[float, int], PlantedSurface]) -> Run:
    """A run of all parts, each with the planted surface of its level and rung."""
    folder.mkdir(exist_ok=True)
    save_study(folder, study)
    for part in parts_of(study):
        plan = make_plan(part.study)
        optuna_study = studies.open_study(open_storage(sqlite_url(folder)), part.study, "digest")
        studies.enqueue_missing(optuna_study, plan.distinct)
        evaluate = planted_evaluate(surfaces[part.phi, part.rung], noise_sd=0.006, key=part.rung)
        work(optuna_study, part.study, plan, evaluate)
    return load(folder)


def test_parts_differ_in_budget_schedule_and_name() -> None:
    study = planted_study(phi=[2, 1], rungs=[1, 2], training={"epochs": 3, "warmup_epochs": 1.5})
    parts = parts_of(study)
    assert [(part.phi, part.rung, part.study.name) for part in parts] == [
        (1.0, 0, "planted"), (2.0, 0, "planted-phi-2"), (1.0, 1, "planted-epochs-1"), (1.0, 2, "planted-epochs-2"),
    ]  # fmt: skip
    assert [part.study.budget for part in parts] == [2, 4, 2, 2]
    assert [part.study.training.epochs for part in parts] == [3, 3, 1, 2]
    assert [part.study.training.warmup_epochs for part in parts] == [1.5, 1.5, 0.5, 1.0]
    assert all(part.study.phi == (1.0,) and part.study.rungs == () for part in parts)
    assert [part.label for part in parts] == ["", "φ = 2", "1-epoch schedule", "2-epoch schedule"]


def test_more_parts_do_not_change_the_identity_of_a_study() -> None:
    assert planted_study(phi=[1, 2], rungs=[1]).identity() == planted_study().identity()
    assert planted_study(race=True).identity() != planted_study().identity()


def test_one_rule_over_two_levels(tmp_path: Path) -> None:
    study = planted_study(phi=[1, 2])
    run = searched(tmp_path, study, {(phi, 0): surface for phi, surface in SURFACES.items()})
    assert run.candidates["phi"].value_counts().to_dict() == {1.0: 15, 2.0: 15}
    assert run.candidates["macs_error"].abs().max() <= 0.02
    surface = run.surface()
    assert surface.n == 30
    assert "φ = 2" in surface.terms
    # The second level's losses lie 0.2 below the first's, whatever the split.
    assert surface.coefficients[surface.terms.index("φ = 2")] == pytest.approx(-0.2, abs=0.01)
    assert surface.levels_p is not None
    assert surface.levels_p > 0.01
    both = run.choice.region
    one = searched(tmp_path / "one", planted_study(), {(1.0, 0): SURFACES[1.0]}).choice.region
    assert both is not None
    assert one is not None
    assert both.part < one.part  # twice the candidates: better located
    assert run.rule.provenance["phi"] == [1.0, 2.0]
    assert run.rule.coefficients.product == pytest.approx(2.0, abs=1e-9)
    assert run.rule.resolved


def test_levels_that_contradict_each_other_are_reported(tmp_path: Path) -> None:
    other = PlantedSurface(linear=(0.30, 0.50, 0.53), interaction=(-0.35, 0.1, -0.4), budget=4.0)
    run = searched(tmp_path, planted_study(phi=[1, 2]), {(1.0, 0): SURFACES[1.0], (2.0, 0): other})
    assert run.surface().levels_p is not None
    assert run.surface().levels_p < 0.001
    assert "The levels φ contradict each other" in run.choice.basis


def test_chances_and_the_tied_set_are_those_of_a_level(tmp_path: Path) -> None:
    run = searched(tmp_path, planted_study(phi=[1, 2]), {(phi, 0): surface for phi, surface in SURFACES.items()})
    chances = run.candidates.groupby("phi")["chance"].sum()
    assert chances.to_numpy() == pytest.approx(1.0)
    assert run.candidates.groupby("phi")["tied"].any().all()


def test_rungs_with_the_same_ranking_agree_and_others_warn(tmp_path: Path) -> None:
    study = planted_study(rungs=[1, 2], training={"epochs": 3}, seeds=3)
    reversed_order = PlantedSurface(linear=(0.44, 0.50, 0.47), interaction=(0.35, 0.35, 0.4))
    surfaces = {(1.0, 0): SURFACES[1.0], (1.0, 1): reversed_order, (1.0, 2): SURFACES[1.0]}
    table = searched(tmp_path, study, surfaces).schedule
    assert table["epochs"].tolist() == [1, 2]
    assert table["candidates"].tolist() == [15, 15]
    assert table["tau"][0] < 0 < 0.6 < table["tau"][1]
    assert (table["low"] < table["tau"]).all()
    assert (table["tau"] < table["high"]).all()
    assert table["agrees"].tolist() == [False, True]
    doubt = warning(table)
    assert doubt.startswith(
        "A longer schedule may choose another rule: the ranking of the candidates differs from the full schedule's "
        "after 1 epoch (τ = -0."
    )
    assert "2 epochs" not in doubt
    assert warning(table[1:]) == ""
    few = table[1:].assign(tau=1.0, low=float("nan"), high=float("nan"))  # as of three candidates
    assert "the ranking may match the full schedule's only by chance after 2 epochs (τ = 1.00)" in warning(few)


def test_a_part_that_has_not_started_is_not_an_error(tmp_path: Path) -> None:
    run = searched(tmp_path, planted_study(), {(1.0, 0): SURFACES[1.0]})
    save_study(tmp_path, planted_study(phi=[1, 2], rungs=[1]))
    assert load(tmp_path).schedule.empty
    (_, _, rung) = parts_of(planted_study(phi=[1, 2], rungs=[1]))
    studies.open_study(open_storage(sqlite_url(tmp_path)), rung.study, "digest")
    again = load(tmp_path)
    assert again.rungs == {1: ()}
    assert len(again.records) == len(run.records) == 15
    assert again.schedule.empty
    assert again.choice.shares == run.choice.shares


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phi": [2]}, "`phi` must hold 1 and no number twice, but got [2.0]"),
        ({"phi": [1, 1]}, "`phi` must hold 1 and no number twice"),
        ({"phi": [1, 17]}, "`budget`^φ must be at most 100,000, but φ is 17"),
        ({"phi": [1, -1]}, "`phi[1]` must be greater than 0, but got -1"),
        ({"rungs": [3]}, "`rungs` must be numbers of epochs below `training.epochs` (3)"),
        ({"rungs": [1], "design": {"kind": "tpe"}}, "needs a planned design, but got tpe"),
        ({"race": True, "design": {"kind": "tpe"}}, "`race` needs a design of feasible candidates"),
        ({"race": True, "design": {"kind": "grid", "nominal": True}}, "but got a nominal grid"),
    ],
)
def test_impossible_parts_are_an_error_of_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="planted study: ") as error:
        planted_study(**changes)
    assert message in str(error.value)
    assert np.char.count(str(error.value), "\n") == 0
