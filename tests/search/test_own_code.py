"""The user's own code is part of what a study was made with, once something was trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest

from scalesearch.errors import InputError, StudyMismatch
from scalesearch.runtime import modules
from scalesearch.search.evaluation import TrainingEvaluation
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from scalesearch.search.supervision import instructions_for
from scalesearch.study.sections import Study
from tests.planted import PlantedSurface, planted_evaluate, planted_study

NETS = """
from dataclasses import replace
from scalesearch.baselines.protocol import Baseline, find_baseline
from tests.planted import small_baseline

Net = replace(small_baseline(), spec=replace(small_baseline().spec, module="coded_flax:Net"))
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study whose network is built by `coded_flax.py`, which nothing here imports."""
    (tmp_path / "coded_nets.py").write_text(NETS, encoding="utf-8")
    (tmp_path / "coded_flax.py").write_text("first = 1\n", encoding="utf-8")
    modules.look_in(tmp_path)
    return planted_study(baseline="coded_nets:Net")


def test_code_may_change_until_something_is_trained(study: Study, tmp_path: Path) -> None:
    storage, plan = open_storage(sqlite_url(tmp_path)), make_plan(study)
    before = studies.open_study(storage, study, "digest")
    studies.enqueue_missing(before, plan.distinct)
    assert re.fullmatch("[0-9a-f]{64}", studies.fingerprint_of(before)["baseline.code"])
    assert "baseline.code" not in studies.fingerprint(planted_study(), "digest")

    # The check before the first trial found it wrong, and it was mended: the study begins anew.
    (tmp_path / "coded_flax.py").write_text("second = 2\n", encoding="utf-8")
    with pytest.raises(StudyMismatch, match=r"coded_flax\.py and .*coded_nets\.py: this code is not that with which"):
        studies.check_code(before, study)
    after = studies.open_study(storage, study, "digest")
    studies.check_code(after, study)
    assert after.get_trials() == []

    # With a result, other code is another study.
    studies.enqueue_missing(after, plan.distinct[:1])
    work(after, study, plan, planted_evaluate(PlantedSurface()))
    (tmp_path / "coded_flax.py").write_text("third = 3\n", encoding="utf-8")
    with pytest.raises(StudyMismatch, match=r"`baseline\.code` was \w+…?, now \w+"):
        studies.open_study(storage, study, "digest")


def test_workers_are_told_where_the_code_is(study: Study, tmp_path: Path) -> None:
    (instruction,) = instructions_for(study, "sqlite://", float("inf"))
    assert instruction["folders"] == [str(tmp_path)]
    assert "folders" not in instructions_for(planted_study(), "sqlite://", float("inf"))[0]


def test_what_is_built_is_compared_with_what_is_counted_before_a_trial(study: Study, tmp_path: Path) -> None:
    text = "from flax import nnx\n\nclass Net(nnx.Module):\n    def __init__(self, spec, *, rngs):\n        pass\n"
    call = "    def __call__(self, images, *, train):\n        return images.reshape(len(images), -1)[:, :10]\n"
    (tmp_path / "coded_flax.py").write_text(text + call, encoding="utf-8")
    with pytest.raises(InputError, match=r"coded_flax:Net at depths \(10, 14\), .*: `tally` counts .* params, but"):
        TrainingEvaluation(study, cast("Any", None), lambda report: None)
