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


def test_exponential_stairs_are_those_of_the_released_efficientnet() -> None:
    """As `tf.train.exponential_decay(staircase=True)` and its linear warm-up, but for our first step."""
    values = rates(1000, schedule="exponential", decay_rate=0.9, decay_epochs=1.25, warmup_epochs=0.5)
    expected = [0.1, 0.2, 0.3, 0.4, 0.5] + [0.5 * 0.9 ** (step // 12.5) for step in range(5, 60)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)  # float32
    steps = np.flatnonzero(np.diff(values[5:])) + 6
    assert steps.tolist() == [13, 25, 38, 50]  # the first step of a stair of 12.5


def test_one_program_serves_all_rates_and_lengths_of_a_kind() -> None:
    traced = []

    @jax.jit
    def rate(schedule: Any, step: Any) -> Any:
        traced.append(schedule)
        return learning_rate(schedule, step)

    for changes in ({}, {"epochs": 9, "learning_rate": 0.1}, {"warmup_epochs": 0, "final_learning_rate_fraction": 0.1}):
        rate(schedule_of(section(**changes), 1000), 3)
    assert len(traced) == 1
    for changes in ({}, {"epochs": 9, "decay_rate": 0.5}, {"decay_epochs": 3.0}):
        rate(schedule_of(section(schedule="exponential", **changes), 1000), 3)
    assert len(traced) == 2
