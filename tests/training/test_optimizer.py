"""Each optimiser against its formulas written out in numpy at float64."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scalesearch.study.training import TrainingSection
from scalesearch.training.optimizer import build_optimizer
from scalesearch.training.packing import Packed

RNG = np.random.default_rng(2)
START = RNG.normal(size=5)
GRADIENTS = RNG.normal(size=(6, 5))
RATES = np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.05])  # changing, so that where the rate enters shows


def adamw(decay: float) -> np.ndarray:
    p, m, v = START.copy(), np.zeros(5), np.zeros(5)
    for t, (g, rate) in enumerate(zip(GRADIENTS, RATES, strict=True), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = p - rate * (step + decay * p)
    return p


def sgd(decay: float) -> np.ndarray:
    p, m = START.copy(), np.zeros(5)
    for g, rate in zip(GRADIENTS, RATES, strict=True):
        m = 0.8 * m + g
        p = p - rate * (g + 0.8 * m + decay * p)  # Nesterov: the gradient plus the momentum to come
    return p


def rmsprop(decay: float) -> np.ndarray:
    p, square, m = START.copy(), np.ones(5), np.zeros(5)
    for g, rate in zip(GRADIENTS, RATES, strict=True):
        slope = g + decay * p  # the paper's code adds an L2 loss
        square = 0.9 * square + 0.1 * slope**2
        m = 0.8 * m + rate * slope / np.sqrt(square + 1e-3)
        p = p - m
    return p


@pytest.mark.parametrize("reference", [adamw, sgd, rmsprop])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_six_steps(reference: Any, decay: float) -> None:
    training = TrainingSection(
        epochs=2,
        batch_size=1,
        learning_rate=1,
        optimizer=reference.__name__,
        momentum=0.8,
        weight_decay=decay,
    )
    optimizer = build_optimizer(training)
    params = Packed(jnp.asarray(START, jnp.float32), jnp.asarray(START, jnp.float32))
    state = optimizer.init(params)
    for g, rate in zip(GRADIENTS, RATES, strict=True):
        gradients = Packed(jnp.asarray(g, jnp.float32), jnp.asarray(g, jnp.float32))
        updates, state = optimizer.update(gradients, state, params, learning_rate=jnp.float32(rate))
        params = optax.apply_updates(params, updates)
    # six float32 steps on values near 1
    np.testing.assert_allclose(params.kernels, reference(decay), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(params.vectors, reference(0.0), rtol=2e-5, atol=2e-6)  # biases and norms never decay
