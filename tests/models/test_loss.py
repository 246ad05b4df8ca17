"""The loss by kernels and by XLA: values and gradient, against float64."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from scalesearch.models.ops.select import named


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize(("images", "classes"), [(5, 4), (3, 1), (500, 100)])
@pytest.mark.parametrize("name", ["kernels", "native"])
def test_cross_entropy_and_its_gradient_against_float64(name: Any, images: int, classes: int, smoothing: float) -> None:
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(images, classes)).astype(np.float32) * 3
    labels, g = rng.integers(0, classes, images).astype(np.int32), rng.normal(size=images).astype(np.float32)
    wide = np.exp(logits.astype(np.float64))
    probabilities = wide / wide.sum(1, keepdims=True)
    target = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    losses, pull = jax.vjp(lambda x: named(name).loss(x, jnp.asarray(labels), smoothing), jnp.asarray(logits))
    np.testing.assert_allclose(losses, -(target * np.log(probabilities)).sum(1), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(pull(g)[0], g[:, None] * (probabilities - target), atol=2e-6)


def test_cross_entropy_of_logits_that_are_not_finite_or_far_off() -> None:
    nan, inf = np.nan, np.inf
    rows = np.array([[nan, 0, 1], [0, nan, 1], [0, inf, 1], [0, 1, 2], [1e30, -1e30, 0], [0, -inf, 0]], np.float32)
    labels = jnp.asarray([1, 2, 0, 3, 0, 0], jnp.int32)
    for name in ("kernels", "native"):
        losses = named(name).loss(jnp.asarray(rows), labels, 0.0)
        np.testing.assert_allclose(losses, [nan, nan, nan, nan, 0, np.log(2)], rtol=1e-6)
