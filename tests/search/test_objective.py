"""The evaluation that trains: what it leaves behind in its process."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jax
import pytest
from jax import numpy as jnp

from scalesearch.data.splits import load_splits
from scalesearch.errors import InputError
from scalesearch.results.records import Failure
from scalesearch.search.evaluation import TrainingEvaluation
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from scalesearch.study.load import parse_study
from scalesearch.training.loop import EpochReport
from scalesearch.training.prefetch import Prefetcher
from scalesearch.training.prepare import Prepared
from tests.cli.tiny import ROOT, TINY


def test_what_compiling_left_is_given_back_before_training() -> None:
    traced: list[int] = []

    @jax.jit
    def function(x: jax.Array) -> jax.Array:
        traced.append(1)
        return x + 1

    function(jnp.float32(1))
    once = len(traced)
    study = parse_study(tomllib.loads(TINY), "TINY")
    evaluate = TrainingEvaluation(study, load_splits(study.data), lambda report: None)
    evaluate(make_plan(study).distinct[0].candidate, (0,))
    function(jnp.float32(1))
    assert len(traced) == 2 * once


def test_lack_of_memory_is_a_kind_of_failure() -> None:
    def refuse(report: EpochReport) -> None:
        raise MemoryError("Unable to allocate 2.00 GiB")

    study = parse_study(tomllib.loads(TINY), "TINY")
    evaluate = TrainingEvaluation(study, load_splits(study.data), refuse)
    failure = evaluate(make_plan(study).distinct[0].candidate, (0,)).failure
    assert failure == Failure("out-of-memory", "Unable to allocate 2.00 GiB")


@pytest.mark.long
def test_a_search_prepares_each_network_while_the_one_before_it_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ready: list[bool] = []

    def take(prefetcher: Prefetcher, *task: Any) -> Prepared | None:
        ready.append((prepared := original(prefetcher, *task)) is not None)
        return prepared

    original = Prefetcher.take
    monkeypatch.setattr(Prefetcher, "take", take)
    losses = []
    for ahead in (True, False):
        study = parse_study(tomllib.loads(f"{TINY}\n[runtime]\ncompile_ahead = {str(ahead).lower()}"), "TINY")
        splits, plan = load_splits(study.data), make_plan(study)
        folder = tmp_path / str(ahead)
        folder.mkdir()
        stored = studies.open_study(open_storage(sqlite_url(folder)), study, splits.digest)
        studies.enqueue_missing(stored, plan.distinct)
        evaluate = TrainingEvaluation(study, splits, lambda report: None)
        work(stored, study, plan, evaluate, expect=evaluate.expect)
        losses.append([record.seeds[0].val_loss_curve for record in studies.records(stored)])
    assert ready == [False, *[True] * (len(plan.distinct) - 1)]
    assert len(ready) > 2
    assert losses[0] == losses[1]


def test_impossible_settings_are_refused_before_a_trial_is_claimed() -> None:
    study = parse_study(tomllib.loads(f'{TINY}\n[runtime]\nconvolutions = "pallas"'), "TINY")
    with pytest.raises(InputError, match="pallas is for GPUs, but jax computes on a cpu"):
        TrainingEvaluation(study, load_splits(study.data), lambda report: None)


def test_a_process_that_trains_imports_nothing_of_the_analysis() -> None:
    """Each worker would hold another 130 MiB, and begin seconds later."""
    asked = (
        "import sys, scalesearch.search.worker, scalesearch.search.evaluation, scalesearch.search.queue.work;"
        "print(*{'pandas', 'pyarrow', 'scipy', 'sklearn', 'statsmodels'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
