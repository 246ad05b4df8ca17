from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest

from scalesearch.study.sections import TrainingSection
from scalesearch.training.schedule import Steps, count_steps, learning_rate, schedule_of


def section(**changes: Any) -> TrainingSection:
    return TrainingSection(**{"epochs": 6, "batch_size": 100, "learning_rate": 0.5, **changes})


@pytest.mark.parametrize(
    ("images", "changes", "steps"),
    [
        (3000, {}, Steps(30, 180, 30)),
        (3099, {}, Steps(30, 180, 30)),
        (3000, {"warmup_epochs": 0}, Steps(30, 180, 0)),
        (3000, {"warmup_epochs": 0.25, "epochs": 2}, Steps(30, 60, 8)),
        (100, {"epochs": 1, "warmup_epochs": 0.9}, Steps(1, 1, 1)),
    ],
)
def test_epochs_become_steps(images: int, changes: dict[str, float], steps: Steps) -> None:
    assert count_steps(section(**changes), images) == steps


def rates(steps: Steps, **changes: Any) -> np.ndarray:
    schedule = schedule_of(section(**changes), steps)
    return np.asarray(jax.vmap(lambda step: learning_rate(schedule, step))(np.arange(steps.total)))


def test_endpoints_and_formula() -> None:
    values = rates(Steps(10, 60, 10), final_learning_rate_fraction=0.1)
    np.testing.assert_allclose(values[:10], 0.5 * np.arange(1, 11) / 10, rtol=1e-6)  # float32
    assert values[9] == values[10] == 0.5
    middle = 0.5 * (0.1 + 0.9 * 0.5)
    np.testing.assert_allclose(values[35], middle, rtol=1e-6)  # half-way from 10 to 60
    last = 0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * 49 / 50)) / 2)
    np.testing.assert_allclose(values[59], last, rtol=1e-5)
    assert (np.diff(values[10:]) < 0).all()


def test_no_step_is_wasted_at_rate_zero() -> None:
    for steps in (Steps(10, 60, 10), Steps(10, 60, 0), Steps(1, 1, 1), Steps(1, 1, 0)):
        assert (rates(steps) > 0).all()
    assert rates(Steps(10, 60, 0))[0] == 0.5
