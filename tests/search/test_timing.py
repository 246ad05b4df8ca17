"""Predicted time: adds up over candidates, is of the right size, and unknown if the data decide."""

from __future__ import annotations

import dataclasses
import time

import pytest

from scalesearch.baselines.published import baseline
from scalesearch.data.splits import load_splits
from scalesearch.scaling.cost.count import complexity
from scalesearch.search.plan.design import make_plan
from scalesearch.search.plan.timing import predicted_seconds, seconds_per_image
from scalesearch.study.load import load_study
from scalesearch.training.loop import EpochReport, train
from tests.planted import planted_candidates, planted_study


def test_time_adds_up_and_more_workers_take_less() -> None:
    study, candidates = planted_study(), planted_candidates()
    one, whole = predicted_seconds(study, candidates[:1]), predicted_seconds(study, candidates)
    assert one is not None
    assert whole == pytest.approx(sum(predicted_seconds(study, [c]) or 0.0 for c in candidates))
    two = study.model_copy(update={"runtime": study.runtime.model_copy(update={"workers": 2})})
    assert (predicted_seconds(two, candidates) or 0.0) < (whole or 0.0)


def test_the_time_is_unknown_if_all_remaining_images_are_trained_on() -> None:
    study = planted_study()
    study = study.model_copy(update={"data": study.data.model_copy(update={"train": 0})})
    assert predicted_seconds(study, planted_candidates()) is None


def test_dense_networks_are_predicted_by_their_multiply_adds() -> None:
    """ResNet-18 on one core took 3.5 ms for an image of 19 px, 25.5 M macs: MBConv's activations say a fourteenth."""
    spec = dataclasses.replace(baseline("resnet-18").spec, resolution=19, in_channels=1, num_classes=10)
    assert 0.5 < seconds_per_image(complexity(spec)) / 3.5e-3 < 2


@pytest.mark.long
def test_a_real_training_takes_as_long_within_a_factor_of_30() -> None:
    """For slips of a power of ten; benchmarks/predicted_time.py holds the prediction to a factor of 2.

    Further epochs are all training, and what is predicted without them all compilation.
    """
    epochs = 7
    study = load_study("mnist_sample", {"training.epochs": epochs, "seeds": 1, "runtime.workers": 1})
    candidate = make_plan(study).distinct[0].candidate
    one_epoch = study.model_copy(update={"training": study.training.model_copy(update={"epochs": 1})})
    first, whole = (predicted_seconds(each, [candidate]) or 0.0 for each in (one_epoch, study))
    predicted_epoch = (whole - first) / (epochs - 1)
    predicted_compilation = first - predicted_epoch

    ends: list[float] = []

    def note_time(report: EpochReport) -> None:
        ends.append(time.perf_counter())

    result = train(candidate.spec, load_splits(study.data), study.training, study.runtime, (0,), note_time)
    assert 1 / 30 < (ends[-1] - ends[0]) / (epochs - 1) / predicted_epoch < 30
    assert 1 / 30 < result.compile_seconds / predicted_compilation < 30
