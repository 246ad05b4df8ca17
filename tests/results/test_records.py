"""Trial records: their JSON gives them back exactly, and has the shape of the contract."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.errors import InputError
from scalesearch.results.records import (
    Failure,
    SeedRecord,
    TrialRecord,
    candidate_from_json,
    candidate_to_json,
    record_from_json,
    record_to_json,
)
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import Rounding
from scalesearch.scaling.cost.budgeted import MACS
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.feasible import Candidate, candidate_of
from scalesearch.scaling.simplex import Shares
from scalesearch.scaling.split import split_cost
from scalesearch.scaling.stage import make_stage

BASE = ArchitectureSpec(
    12,
    1,
    10,
    StemSpec(8, 3, 1),
    (make_stage("mbconv", kernel_size=3, stride=1, expand_ratio=1, width=8, depth=2, se_ratio=0.25),),
    0,
)
ROUNDING = Rounding(8, "balanced", 1, "scaled", "scaled")
GROWN = BASE.with_sizes((3,), (8, 16, 0), 15)


def _candidate() -> Candidate:
    shares = split_cost(BASE, GROWN)
    return candidate_of(BASE, ROUNDING, complexity(BASE).macs, GROWN, Coefficients(1.5, 1.9, 1.25), shares, MACS)


def _record(**changes: Any) -> TrialRecord:
    values: dict[str, Any] = {
        "candidate": _candidate(),
        "seeds": (
            SeedRecord(0, (2.0, 1.0), (1.5, 0.7), (0.4, 0.75), 1.25),
            SeedRecord(1, (2.1, 1.1), (1.6, 0.9), (0.3, 0.625), 1.5),
        ),
        "failure": None,
        "compile_seconds": 0.1,
        "images_per_second": 1000.5,
        "device": "cpu",
        "versions": (("jax", "0.10.2"), ("numpy", "2.4.0")),
    }
    return TrialRecord(**{**values, **changes})


# Every number a double can hold survives JSON; a loss that is not finite ends the trial, so none is recorded.
numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    curves=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=4),
    seconds=numbers,
    seeds=st.lists(st.integers(0, 2**32), min_size=0, max_size=3),
    reason=st.text(),
    kind=st.sampled_from(["diverged", "out-of-memory", "error", "interrupted", "stale"]),
)
def test_json_gives_the_record_back(
    curves: list[tuple[float, float, float]], seconds: float, seeds: list[int], reason: str, kind: Any
) -> None:
    train, loss, accuracy = (tuple(column) for column in zip(*curves, strict=True))
    record = _record(
        seeds=tuple(SeedRecord(seed, train, loss, accuracy, seconds) for seed in seeds),
        failure=None if seeds else Failure(kind, reason),
    )
    assert record_from_json(json.loads(json.dumps(record_to_json(record), allow_nan=False))) == record


def test_balanced_accuracy_is_stored_only_where_it_was_recorded() -> None:
    record = _record()
    keys = ["seed", "train_loss", "val_loss_curve", "val_accuracy_curve", "train_seconds"]
    assert [list(seed) for seed in record_to_json(record)["seeds"]] == [keys] * 2  # as in older records
    assert math.isnan(record.mean("val_balanced_accuracy"))
    first = dataclasses.replace(record.seeds[0], val_balanced_accuracy_curve=(0.25, 0.5))
    mixed = _record(seeds=(first, record.seeds[1]))
    assert record_from_json(json.loads(json.dumps(record_to_json(mixed)))) == mixed
    assert _record(seeds=(first,)).mean("val_balanced_accuracy") == 0.5


def test_a_candidate_has_the_keys_of_the_contract() -> None:
    document = candidate_to_json(_candidate())
    assert list(document) == [
        "alpha",
        "beta",
        "gamma",
        "shares",
        "nominal",
        "macs",
        "macs_ratio",
        "params",
        "activations",
        "spec",
    ]
    assert (document["alpha"], document["beta"], document["gamma"]) == (1.5, 2.0, 1.25)  # realised
    assert document["nominal"] == {"alpha": 1.5, "beta": 1.9, "gamma": 1.25}
    assert list(document["shares"]) == ["depth", "width", "resolution"]
    cost = complexity(GROWN)
    assert (document["macs"], document["params"], document["activations"]) == (cost.macs, cost.params, cost.activations)
    assert document["macs_ratio"] == cost.macs / complexity(BASE).macs
    assert document["spec"] == GROWN.to_json()
    assert tuple(document["shares"].values()) == split_cost(BASE, GROWN).values


def test_a_record_keeps_the_shares_that_an_earlier_version_stored() -> None:
    before = {**candidate_to_json(_candidate()), "shares": {"depth": 0.25, "width": 0.5, "resolution": 0.25}}
    assert candidate_from_json(before).shares == Shares(0.25, 0.5, 0.25)
    assert candidate_to_json(candidate_from_json(before)) == before


def test_json_gives_the_candidate_back() -> None:
    assert candidate_from_json(json.loads(json.dumps(candidate_to_json(_candidate())))) == _candidate()


def test_a_metric_is_that_of_the_last_epoch_and_its_mean_is_over_the_seeds() -> None:
    record = _record()
    assert [seed.val_loss for seed in record.seeds] == [0.7, 0.9]
    assert record.mean("val_loss") == pytest.approx(0.8, rel=1e-15)
    assert record.mean("val_accuracy") == 0.6875


def test_a_failed_trial_has_no_metric_and_keeps_its_reason() -> None:
    record = _record(seeds=(), failure=Failure("diverged", "loss is nan in epoch 2"))
    assert math.isnan(record.mean("val_loss"))
    again = record_from_json(json.loads(json.dumps(record_to_json(record))))
    assert again.failure == Failure("diverged", "loss is nan in epoch 2")


def test_seeds_that_finished_before_a_failure_are_kept() -> None:
    record = _record(failure=Failure("interrupted", "by the user"))
    assert record_from_json(record_to_json(record)) == record


def test_a_record_holds_a_result_or_a_failure() -> None:
    with pytest.raises(ValueError, match="needs at least one seed's result or a failure, but got neither"):
        _record(seeds=())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("candidate", ..., "missing key `candidate`"),
        ("candidate", {**record_to_json(_record())["candidate"], "spec": 3}, "`candidate.spec` must be an object, but"),
        ("seeds", [{"seed": 1}], "missing key `seeds[0].train_loss`"),
        ("seeds", [{**record_to_json(_record())["seeds"][0], "extra": 1}], "unknown key `seeds[0].extra`; allowed"),
        (
            "seeds",
            [{**record_to_json(_record())["seeds"][0], "train_loss": ["a"]}],
            "`seeds[0].train_loss[0]` must be a",
        ),
        ("seeds", [], "a trial record needs at least one seed's result or a failure, but got neither"),
        ("device", ..., "missing key `device`"),
        ("device", 3, "`device` must be text, but got 3"),
    ],
)
def test_another_document_is_no_record(key: str, value: object, message: str) -> None:
    document = record_to_json(_record())
    if value is ...:
        del document[key]
    else:
        document[key] = value
    with pytest.raises(InputError) as caught:
        record_from_json(document)
    assert str(caught.value).startswith(f"trial record: {message}")
    assert "\n" not in str(caught.value)


def test_a_record_from_before_versions_were_kept_is_still_read() -> None:
    document = record_to_json(_record())
    del document["versions"]
    assert record_from_json(document) == _record(versions=())
