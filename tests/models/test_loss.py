"""The loss in its two forms, values and gradient, against float64."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from scalesearch.models.ops.select import named


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize(("images", "classes"), [(5, 4), (3, 1), (500, 100)])
@pytest.mark.parametrize("forms", ["kernels", "native"])
def test_cross_entropy_and_its_gradient_against_float64(
    forms: Any, images: int, classes: int, smoothing: float
) -> None:
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(images, classes)).astype(np.float32) * 3
    labels, g = rng.integers(0, classes, images).astype(np.int32), rng.normal(size=images).astype(np.float32)
    wide = np.exp(logits.astype(np.float64))
    probabilities = wide / wide.sum(1, keepdims=True)
    target = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    found, pull = jax.vjp(lambda x: named(forms).loss(x, jnp.asarray(labels), smoothing), jnp.asarray(logits))
    np.testing.assert_allclose(found, -(target * np.log(probabilities)).sum(1), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(pull(g)[0], g[:, None] * (probabilities - target), atol=2e-6)


def test_cross_entropy_shows_what_is_not_finite_and_bears_what_is_far_off() -> None:
    nan, inf = np.nan, np.inf
    rows = np.array([[nan, 0, 1], [0, nan, 1], [0, inf, 1], [0, 1, 2], [1e30, -1e30, 0], [0, -inf, 0]], np.float32)
    labels = jnp.asarray([1, 2, 0, 3, 0, 0], jnp.int32)
    for forms in ("kernels", "native"):
        found = named(forms).loss(jnp.asarray(rows), labels, 0.0)
        np.testing.assert_allclose(found, [nan, nan, nan, nan, 0, np.log(2)], rtol=1e-6)
