"""A finished study is extended: more seeds, a larger design, levels and rungs; what is trained is not trained again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from scalesearch.analysis.tables import candidates_table
from scalesearch.errors import StudyMismatch
from scalesearch.results.load import Run, load
from scalesearch.results.records import Failure, TrialRecord
from scalesearch.results.save import save_study
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import make_plan
from scalesearch.search.plan.reference import reference_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.filling import fill_queue, tasks_left
from scalesearch.search.queue.naming import check_earlier, named_parts
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.storage import open_storage, sqlite_url, study_names
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.work import Evaluate, work
from scalesearch.search.stored import StoredSearch
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, planted_evaluate, planted_study

PLANTED = planted_evaluate(PlantedSurface())
SMALL = {"degree": 1}  # three networks, the corners
LARGER = {"degree": 2}  # six, among them those


class Trained:
    """A planted evaluation that remembers what it trained: (network, seeds)."""

    def __init__(self, evaluate: Evaluate = PLANTED) -> None:
        self._evaluate = evaluate
        self.tasks: list[tuple[Any, tuple[int, ...]]] = []

    def __call__(self, candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        self.tasks.append((candidate.spec, seeds))
        return self._evaluate(candidate, seeds)

    @property
    def trainings(self) -> Counter[tuple[Any, int]]:
        return Counter((spec, seed) for spec, seeds in self.tasks for seed in seeds)


def opened(folder: Path, study: Study) -> tuple[StoredStudy, StoredSearch]:
    folder.mkdir(exist_ok=True)
    stored = studies.open_study(open_storage(sqlite_url(folder)), study, "digest")
    save_study(folder, study)
    return stored, StoredSearch(study, make_plan(study), stored)


def searched(folder: Path, study: Study, evaluate: Evaluate = PLANTED) -> Run:
    """What `run` does with one part."""
    stored, search = opened(folder, study)
    search.fill_queue()
    work(stored, study, search.plan, evaluate, poll_seconds=0.05)
    return load(folder)


def test_more_seeds_train_only_those_that_each_candidate_lacks(tmp_path: Path) -> None:
    """The records, and so the tables and the choice, are those of a study that had all seeds from the start."""
    before, added, whole = Trained(), Trained(), Trained()
    searched(tmp_path / "run", planted_study(design=SMALL), before)
    run = searched(tmp_path / "run", planted_study(design=SMALL, seeds=4), added)
    undisturbed = searched(tmp_path / "whole", planted_study(design=SMALL, seeds=4), whole)
    assert {seeds for _, seeds in added.tasks} == {(2, 3)}
    assert before.trainings + added.trainings == whole.trainings
    assert run.study.seeds == run.rule.seeds == 4
    assert run.fingerprint == undisturbed.fingerprint
    assert run.candidates["seeds"].tolist() == [4] * 3
    columns = ["candidate", "val_loss", "val_loss_sd", "chance", "tied"]
    assert run.candidates[columns].equals(undisturbed.candidates[columns])
    assert run.rule.coefficients == undisturbed.rule.coefficients
    again = Trained()
    searched(tmp_path / "run", planted_study(design=SMALL, seeds=4), again)
    assert again.tasks == []


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (SMALL, LARGER, 3),
        ({"kind": "qmc", "size": 2}, {"kind": "qmc", "size": 4}, 2),  # its points begin with those of a smaller one
        ({"kind": "grid", "step": 0.4}, {"kind": "grid", "step": 0.2}, 2),
        ({"kind": "tpe", "size": 2}, {"kind": "tpe", "size": 4}, 2),
    ],
)
def test_a_larger_design_trains_what_is_new_and_keeps_the_rest(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], kept: int
) -> None:
    first, second = Trained(), Trained()
    searched(tmp_path, planted_study(seeds=1, design=before), first)
    study = planted_study(seeds=1, design=after)
    run = searched(tmp_path, study, second)
    known, new = ({spec for spec, _ in trained.tasks} for trained in (first, second))
    planned = {trial.candidate.spec for trial in make_plan(study).distinct} or known | new
    assert max((first.trainings + second.trainings).values()) == 1
    assert new == planned - known
    assert len(planned & known) == kept
    assert len(run.candidates) == len(planned | known) > len(known)


@pytest.mark.parametrize("kind", ["lattice", "tpe"])
def test_networks_of_a_smaller_design_get_the_further_seeds_as_well(tmp_path: Path, kind: str) -> None:
    sizes = ({"degree": 2}, {"degree": 3}) if kind == "lattice" else ({"size": 2}, {"size": 2})
    first, second = Trained(), Trained()
    searched(tmp_path, planted_study(seeds=1, design={"kind": kind, **sizes[0]}), first)
    run = searched(tmp_path, planted_study(seeds=3, design={"kind": kind, **sizes[1]}), second)
    assert set(run.candidates["seeds"]) == {3}
    assert max((first.trainings + second.trainings).values()) == 1
    assert {spec for spec, _ in first.tasks} <= {spec for spec, seeds in second.tasks if seeds == (1, 2)}
    again = Trained()
    searched(tmp_path, planted_study(seeds=3, design={"kind": kind, **sizes[1]}), again)
    assert again.tasks == []


def test_an_adaptive_design_that_grows_counts_the_further_seeds_as_well(tmp_path: Path) -> None:
    searched(tmp_path, planted_study(seeds=1, design={"kind": "tpe", "size": 2}))
    stored, search = opened(tmp_path, planted_study(seeds=2, design={"kind": "tpe", "size": 3}))
    assert search.fill_queue() == 5  # three networks, of which two are trained a second time
    work(stored, search.study, search.plan, PLANTED)
    assert studies.count_states(stored)["complete"] == 5


@pytest.mark.long
def test_an_unfinished_study_is_extended_and_what_is_left_is_counted(tmp_path: Path) -> None:
    stored, search = opened(tmp_path, planted_study(design=SMALL))
    assert search.fill_queue() == 3
    one_of_three = iter(range(1))

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        if next(one_of_three, None) is None:
            raise KeyboardInterrupt
        return PLANTED(candidate, seeds)

    with pytest.raises(KeyboardInterrupt):
        work(stored, search.study, search.plan, evaluate)
    whole = search.predicted_seconds
    stored, search = opened(tmp_path, planted_study(design=SMALL, seeds=3))
    assert sorted(count for _, count in tasks_left(stored, search.study, search.plan)) == [1] * 3 + [2] * 2
    assert search.predicted_seconds is not None
    assert whole is not None
    assert search.predicted_seconds > whole
    assert search.fill_queue() == 6
    work(stored, search.study, search.plan, PLANTED)
    assert search.predicted_seconds == 0.0
    assert studies.count_states(stored)["complete"] == 6
    assert set(load(tmp_path).candidates["seeds"]) == {3}


@pytest.mark.long
def test_a_race_goes_on_with_more_seeds(tmp_path: Path) -> None:
    noisy = planted_evaluate(PlantedSurface(), noise_sd=0.08)
    first, second = Trained(noisy), Trained(noisy)
    before = searched(tmp_path, planted_study(race=True, seeds=2, design=LARGER), first)
    assert before.candidates["seeds"].max() == 2
    run = searched(tmp_path, planted_study(race=True, seeds=4, design=LARGER), second)
    assert run.candidates["seeds"].max() > 2
    assert max((first.trainings + second.trainings).values()) == 1


def test_a_candidate_that_failed_gets_no_further_seeds_and_stays_failed(tmp_path: Path) -> None:
    study = planted_study(design=SMALL)
    failing = make_plan(study).distinct[2].candidate.spec
    failure = Failure("diverged", "loss must stay finite")
    fails = planted_evaluate(PlantedSurface(), fail=lambda one: failure if one.spec == failing else None)
    searched(tmp_path, study, fails)
    added = Trained()
    run = searched(tmp_path, planted_study(design=SMALL, seeds=3), added)
    assert failing not in {spec for spec, _ in added.tasks}
    assert run.candidates["status"].tolist() == ["done"] * 2 + ["failed"]


def test_further_seeds_do_not_make_good_a_failure_that_came_meanwhile(tmp_path: Path) -> None:
    """Another worker trained the further seeds while the first ones diverged."""
    study = planted_study(design={"degree": 1})
    stored, search = opened(tmp_path, study)
    search.fill_queue()
    stored, search = opened(tmp_path, planted_study(design={"degree": 1}, seeds=3))
    search.fill_queue()
    failure = Failure("diverged", "loss must stay finite")
    failing = search.plan.distinct[0].candidate.spec
    whole = planted_evaluate(PlantedSurface())
    lost = planted_evaluate(PlantedSurface(), fail=lambda one: failure)
    records = [
        (lost if each.spec == failing and seeds == (0, 1) else whole)(each, seeds)
        for seeds in ((0, 1), (2,))
        for each in (trial.candidate for trial in search.plan.distinct)
    ]
    table = candidates_table(records, 2.0, "val_loss")
    assert table["status"].tolist() == ["done", "done", "failed"]
    assert table["seeds"].tolist() == [3, 3, 0]
    # A worker that claims the further seeds after that leaves them.
    trained = Trained(lambda each, seeds, watch=goes_on: (lost if each.spec == failing else whole)(each, seeds))
    work(stored, search.study, search.plan, trained)
    assert [seeds for spec, seeds in trained.tasks if spec == failing] == [(0, 1)]
    assert Counter(trial.state for trial in stored.trials) == {
        TrialState.COMPLETE: 4, TrialState.FAIL: 1, TrialState.PRUNED: 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"seeds": 3}, {"seeds": 2}, "larger than .*`seeds` was 3, now 2; .*ask for at least `seeds` 3"),
        ({}, {"seeds": 3, "design": {"degree": 3}}, "`design.degree` was 4, now 3.*, `seeds` was 2, now 3; .* 4$"),
        ({}, {"seeds": 3, "tolerance": 0.03}, "`tolerance` was 0.02, now 0.03; only more `seeds`, a larger `design`"),
        ({}, {"design": {"kind": "qmc"}}, "`design.kind` was lattice, now qmc; .* of the same kind"),
        ({}, {"training": {"epochs": 9}}, r"`training.epochs` was 3, now 9; .*: --epochs 3,9\)"),
        ({"prune": True}, {"prune": True, "seeds": 3}, "prunes, so it cannot be extended: `seeds` was 2, now 3; its"),
    ],
)
def test_what_cannot_grow_is_refused_with_what_can(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], message: str
) -> None:
    storage = open_storage(sqlite_url(tmp_path))
    made = studies.open_study(storage, planted_study(**before), "digest")
    with pytest.raises(StudyMismatch, match=message) as caught:
        studies.open_study(storage, planted_study(**after), "digest")
    assert "\n" not in str(caught.value)
    assert studies.study_of(made) == planted_study(**before)


def test_machines_that_extend_a_study_at_once_do_not_undo_one_another(tmp_path: Path) -> None:
    """The second opened the study before the first extended it, and stores its extension after that."""
    storage = open_storage(sqlite_url(tmp_path))
    made = studies.open_study(storage, planted_study(), "digest")
    attributes = dict(made.user_attrs)
    studies.open_study(storage, planted_study(seeds=5), "digest")
    more = {key: value for key, value in made.user_attrs.items() if key not in attributes}
    assert len(more) == 1  # one write
    (tmp_path / "elsewhere").mkdir()
    elsewhere = open_storage(sqlite_url(tmp_path / "elsewhere"))
    other = studies.open_study(elsewhere, planted_study(), "digest")
    studies.open_study(elsewhere, planted_study(seeds=3, design={"degree": 6}), "digest")
    for key, value in more.items():
        other.set_user_attr(key, value)
    assert studies.study_of(other) == planted_study(seeds=5, design={"degree": 6})
    with pytest.raises(StudyMismatch, match="ask for at least `seeds` 5"):
        studies.open_study(elsewhere, planted_study(seeds=3, design={"degree": 6}), "digest")
    studies.open_study(elsewhere, planted_study(seeds=5, design={"degree": 6}), "digest")


def test_a_worker_that_joined_before_the_extension_goes_on(tmp_path: Path) -> None:
    study = planted_study(design=SMALL)
    stored, search = opened(tmp_path, study)
    search.fill_queue()
    joined = studies.join_study(open_storage(sqlite_url(tmp_path)), "planted")
    _, larger = opened(tmp_path, planted_study(design=LARGER, seeds=3))
    expected = larger.fill_queue()
    trained = Trained()
    work(joined, study, search.plan, trained)  # with the settings of before
    assert max(trained.trainings.values()) == 1
    assert studies.count_states(stored)["complete"] == expected
    assert larger.fill_queue() == expected  # nothing is left
    assert set(load(tmp_path).candidates["seeds"]) == {3}


def test_networks_of_no_design_of_the_study_are_still_a_mismatch(tmp_path: Path) -> None:
    searched(tmp_path, planted_study(design=SMALL))
    stored, search = opened(tmp_path, planted_study(design=LARGER))
    other = make_plan(planted_study(design={"degree": 4})).distinct[1].candidate
    studies.enqueue(stored, other, (0, 1), planned=True)
    with pytest.raises(StudyMismatch, match="planned by another version"):
        search.fill_queue()


# Schedules. A planted evaluation has 3 epochs.


def all_searched(folder: Path, study: Study, evaluate: Evaluate) -> tuple[Run, str]:
    """What `run` does with all parts and the reference; and what it says."""
    storage = open_storage(sqlite_url(folder))
    named = named_parts(storage, study)
    check_earlier(storage, named, study, "digest")
    save_study(folder, study)
    plans = [(named.reference, reference_plan(named.reference))]
    for part, plan in [*plans, *((part.study, make_plan(part.study)) for part in named.parts)]:
        stored = studies.open_study(storage, part, "digest")
        fill_queue(stored, part, plan)
        work(stored, part, plan, evaluate)
    return load(folder), named.note


def test_the_whole_schedule_of_before_serves_as_a_rung(tmp_path: Path) -> None:
    short = planted_study(design=SMALL, training={"warmup_epochs": 1.0})
    longer = planted_study(design=SMALL, training={"epochs": 6, "warmup_epochs": 2.0}, rungs=[3])
    before, _ = all_searched(tmp_path, short, PLANTED)
    trained = Trained()
    run, note = all_searched(tmp_path, longer, trained)
    assert note == ""
    assert run.rungs == {3: before.records}
    storage = open_storage(sqlite_url(tmp_path))
    names = ["planted", "planted-baseline", "planted-epochs-6", "planted-epochs-6-baseline"]
    assert study_names(storage) == names
    levels = named_parts(storage, planted_study(training={"epochs": 6}, rungs=[3], phi=[1, 2])).parts
    assert [part.study.name for part in levels[:2]] == ["planted-epochs-6", "planted-epochs-6-phi-2"]
    assert max(trained.trainings.values()) == 1
    assert run.fingerprint["training.epochs"] == 6
    assert run.stored_as == "planted-epochs-6"
    # More seeds extend the rung, too; and the short schedule alone is as it was.
    run, _ = all_searched(tmp_path, longer.model_copy(update={"seeds": 3}), PLANTED)
    assert {seed.seed for record in run.rungs[3] for seed in record.seeds} == {0, 1, 2}
    with pytest.raises(StudyMismatch, match="at least `seeds` 3"):
        all_searched(tmp_path, short, PLANTED)


@pytest.mark.long
def test_another_schedule_than_the_rungs_is_trained_anew_and_says_why(tmp_path: Path) -> None:
    short, longer = planted_study(design=SMALL), planted_study(design=SMALL, training={"epochs": 6}, rungs=[3])
    before, _ = all_searched(tmp_path, short, PLANTED)
    run, note = all_searched(tmp_path, longer, PLANTED)
    assert note == (
        "the study 'planted' does not serve as the 3-epoch schedule, where `training.warmup_epochs` is 0.5 instead of "
        "1.0: that is trained anew, as 'planted-epochs-3'"
    )
    assert len(run.rungs[3]) == 3
    trained = Trained()
    assert all_searched(tmp_path, longer, trained) == (run, "")
    assert trained.tasks == []
    again, _ = all_searched(tmp_path, short, trained)
    assert (again.records, trained.tasks) == (before.records, [])


def test_a_longer_schedule_of_another_study_is_a_mismatch(tmp_path: Path) -> None:
    all_searched(tmp_path, planted_study(design={"degree": 1}), PLANTED)
    other = planted_study(design={"degree": 1}, training={"epochs": 6, "learning_rate": 0.02}, rungs=[3])
    with pytest.raises(StudyMismatch, match="`training.learning_rate` was 0.01, now 0.02"):
        all_searched(tmp_path, other, PLANTED)
