from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest

from scalesearch.study.training import TrainingSection
from scalesearch.training.schedule import learning_rate, schedule_of


def section(**changes: Any) -> TrainingSection:
    return TrainingSection(**{"epochs": 6, "batch_size": 100, "learning_rate": 0.5, **changes})


@pytest.mark.parametrize(
    ("images", "changes", "total", "warmup"),
    [
        (3000, {}, 180, 30),
        (3099, {}, 180, 30),
        (3000, {"warmup_epochs": 0}, 180, 0),
        (3000, {"warmup_epochs": 0.25, "epochs": 2}, 60, 8),
        (100, {"epochs": 1, "warmup_epochs": 0.9}, 1, 1),
    ],
)
def test_epochs_become_steps(images: int, changes: dict[str, float], total: int, warmup: int) -> None:
    schedule = schedule_of(section(**changes), images)
    assert (int(schedule.total), int(schedule.warmup)) == (total, warmup)


def rates(images: int, **changes: Any) -> np.ndarray:
    schedule = schedule_of(section(**changes), images)
    return np.asarray(jax.vmap(lambda step: learning_rate(schedule, step))(np.arange(int(schedule.total))))


def test_endpoints_and_formula() -> None:
    values = rates(1000, final_learning_rate_fraction=0.1)
    np.testing.assert_allclose(values[:10], 0.5 * np.arange(1, 11) / 10, rtol=1e-6)  # float32
    assert values[9] == values[10] == 0.5
    middle = 0.5 * (0.1 + 0.9 * 0.5)
    np.testing.assert_allclose(values[35], middle, rtol=1e-6)  # half-way from 10 to 60
    last = 0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * 49 / 50)) / 2)
    np.testing.assert_allclose(values[59], last, rtol=1e-5)
    assert (np.diff(values[10:]) < 0).all()


@pytest.mark.parametrize(("images", "epochs", "warmup"), [(1000, 6, 1), (1000, 6, 0), (100, 1, 0.9), (100, 1, 0)])
def test_no_step_is_wasted_at_rate_zero(images: int, epochs: int, warmup: float) -> None:
    values = rates(images, epochs=epochs, warmup_epochs=warmup)
    assert (values > 0).all()
    assert warmup or values[0] == 0.5
