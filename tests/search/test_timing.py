"""Predicted time: adds up over candidates, and is unknown if the data decide it."""

from __future__ import annotations

import pytest

from scalesearch.search.plan.timing import predicted_seconds
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
