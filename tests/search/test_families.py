"""A candidate of each family of block kinds, from a study to its record: planned, built, trained and validated."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest

import scalesearch
from scalesearch.data.splits import Splits, load_splits
from scalesearch.models.ops.cpu import library
from scalesearch.search.evaluation import TrainingEvaluation
from scalesearch.search.plan.design import make_plan
from scalesearch.study.load import parse_study
from scalesearch.study.sections import DataSection, Study

STEM = {"width": 4, "kernel_size": 3, "stride": 1}
SECOND = {"kernel_size": 3, "stride": 2, "width": 8, "depth": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "mobilenet-v3": {
        "block": "bneck",
        "stage": {"expand_ratio": 2.5, "se_ratio": 0.25, "activation": "relu"},
        "activation": "hard_swish",
        "hidden_width": 8,
    },
    "efficientnet-v2": {"block": "fused_mbconv", "stage": {"expand_ratio": 2}},
    "regnet-y": {"block": "grouped_bottleneck", "stage": {"group_width": 2, "se_ratio": 0.25}, "activation": "relu"},
    "wide-resnet": {
        "block": "preactivation",
        "stem": {**STEM, "norm": "none"},
        "final_norm": "batch",
        "activation": "relu",
    },
    "convnext": {
        "block": "convnext",
        "stem": {"width": 4, "kernel_size": 2, "stride": 2, "norm": "layer"},
        "stage": {"expand_ratio": 4},
        "final_norm": "layer",
        "activation": "gelu",
    },
}


@pytest.fixture(scope="module")
def splits() -> Splits:
    assert library.problem() is None
    return load_splits(DataSection(source="mnist-sample", train=64, validation=32))


def tiny_study(family: str, described: dict[str, Any]) -> Study:
    """A study of one stage of the family's block on 64 digits."""
    described = dict(described)
    block, stage, stem = described.pop("block"), described.pop("stage", {}), described.pop("stem", STEM)
    return parse_study(
        {
            "name": family,
            "tolerance": 0.2,
            "baseline": {
                "name": family, "resolution": 8, "in_channels": 1, "num_classes": 10, "head_width": 0, "stem": stem,
                "stages": [{"block": block, **SECOND, **stage}], **described,
            },
            "rounding": {"width_divisor": 2},
            "design": {"degree": 1},
            "data": {"source": "mnist-sample", "train": 64, "validation": 32},
            "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.01, "warmup_epochs": 0.0},
        },
        family,
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_candidate_of_each_family_trains(family: str, splits: Splits) -> None:
    study = tiny_study(family, FAMILIES[family])
    deepest = max((trial.candidate for trial in make_plan(study).trials), key=lambda each: sum(each.spec.depths))
    assert 1.6 < deepest.cost_ratio < 2.4
    record = TrainingEvaluation(study, splits, lambda report: None)(deepest, (0,))
    assert record.failure is None
    assert record.candidate.spec.stages[0].block == FAMILIES[family]["block"]
    (seed,) = record.seeds
    assert math.isfinite(seed.train_loss[-1])
    assert 0 < seed.val_loss_curve[-1] < 2 * math.log(10)


OLDER = {block: {"block": block} for block in ("mbconv", "separable", "basic", "bottleneck")}


@pytest.mark.long
@pytest.mark.parametrize(("family", "described"), {**FAMILIES, **OLDER}.items())
def test_each_family_is_searched_to_its_rule(tmp_path: Path, family: str, described: dict[str, Any]) -> None:
    study = tiny_study(family, described).model_copy(update={"seeds": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few images miss a class
        run = scalesearch.search(study, tmp_path / "run", events=lambda event: None)
    assert run.failed == 0
    assert run.reference is not None
    assert run.states["complete"] == len(make_plan(study).distinct) > 0
    assert {record.candidate.spec.stages[0].block for record in run.records} == {described["block"]}
    if run.has_rule:  # a single epoch on 64 images may well learn nothing, and then says so
        assert (tmp_path / "run" / "coefficients.json").exists()
        assert run.rule.alpha * run.rule.beta**2 * run.rule.gamma**2 == pytest.approx(2)
    else:
        assert run.standing.answer
