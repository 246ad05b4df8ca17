"""Batch normalisation with its activation against autodiff of the plain formula in float64."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from scalesearch.models.ops.base import EPSILON
from scalesearch.models.ops.select import named

KERNEL_ACTIVATIONS = ("swish", "relu", "relu6", "hard_swish", "none")
ACTIVATIONS = (*KERNEL_ACTIVATIONS, "gelu")
# float32 rounds to 6e-8, sums of 4·5·6 terms and a division by the spread: 3e-5 of the largest entry is ample.
TOLERANCE = 3e-5


def formula(x: Any, scale: Any, bias: Any, activation: str) -> Any:
    mean = x.mean((0, 1, 2))
    variance = ((x - mean) ** 2).mean((0, 1, 2))
    z = (x - mean) / jnp.sqrt(variance + EPSILON) * scale + bias
    choices = {"swish": z / (1 + jnp.exp(-z)), "relu": jnp.where(z > 0, z, 0), "none": z}
    choices["hard_swish"] = jnp.where(z > 3, z, jnp.where(z > -3, z * (z + 3) / 6, 0))
    choices["gelu"] = z * (1 + jax.lax.erf(z / 2**0.5)) / 2
    y = jnp.where(z > 6, 6.0, choices["relu"]) if activation == "relu6" else choices[activation]
    return y, mean, variance


def example(offset: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(4, 5, 6, 3)) * [0.5, 1, 4] + offset).astype(np.float32)
    scale, bias = (rng.normal(size=3).astype(np.float32) * 3 for _ in range(2))
    return x, scale, bias, rng.normal(size=x.shape).astype(np.float32)


def close(actual: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    expected = np.asarray(expected, np.float64)
    assert np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max() < tolerance


@pytest.mark.parametrize("name", ["kernels", "shift", "native"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values_and_gradients_against_float64(activation: Any, name: Any) -> None:
    x, scale, bias, g = example(0.3)
    (y, mean, variance), pull = jax.vjp(jax.jit(lambda *a: named(name).normalise(*a, activation)), x, scale, bias)
    gradients = pull((jnp.asarray(g), jnp.zeros(3), jnp.zeros(3)))
    with jax.enable_x64(True):
        wide = [jnp.asarray(a, jnp.float64) for a in (x, scale, bias, g)]
        expected, reference_pull = jax.vjp(jax.jit(lambda *a: formula(*a, activation)), *wide[:3])
        expected_gradients = reference_pull((wide[3], jnp.zeros(3), jnp.zeros(3)))
        assert expected[0].dtype == jnp.float64
    for actual, wanted in zip((y, mean, variance, *gradients), (*expected, *expected_gradients), strict=True):
        close(actual, wanted)


@pytest.mark.parametrize("name", ["kernels", "shift", "native"])
def test_variance_of_values_far_from_zero(name: Any) -> None:
    """A mean of a hundred times the smallest spread costs the sums of squares four digits, not all."""
    x, scale, bias, _ = example(50)
    variance = named(name).normalise(x, scale, bias, "none")[2]
    close(variance[:1], x[..., :1].astype(np.float64).var((0, 1, 2)), 5e-3)


@pytest.mark.parametrize("name", ["kernels", "shift", "native"])
def test_a_channel_that_never_changes(name: Any) -> None:
    """Its variance is 0 but for rounding, and never negative: 1 / √(v + ε) stays finite."""
    x = np.full((4, 5, 6, 3), [0.1, 123.456, 1e4], np.float32)
    y, _, variance = named(name).normalise(x, np.ones(3, np.float32), np.zeros(3, np.float32), "swish")
    assert np.isfinite(y).all()
    assert (np.asarray(variance) >= 0).all()
    assert (np.asarray(variance) <= 1e-6 * x[0, 0, 0] ** 2).all()


def test_the_statistics_carry_no_gradient() -> None:
    x, scale, bias, _ = example(0.0)
    for name in ("kernels", "shift", "native"):
        slope = jax.grad(lambda x, name=name: named(name).normalise(x, scale, bias, "swish")[2].sum())(x)
        np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("name", ["kernels", "shift"])
def test_vmap_over_seeds_equals_a_loop(name: Any) -> None:
    x, scale, bias, g = example(0.0)

    def both(x: Any, scale: Any, bias: Any) -> Any:
        y, pull = jax.vjp(lambda *a: named(name).normalise(*a, "swish")[0], x, scale, bias)
        return y, *pull(g)

    stacked = [jnp.stack([a, 1.5 * a + 1]) for a in (x, scale, bias)]
    together = jax.jit(jax.vmap(both))(*stacked)
    for seed in range(2):
        for actual, expected in zip(together, both(*(a[seed] for a in stacked)), strict=True):
            close(actual[seed], expected)


def test_swish_and_its_gradient_stay_finite_far_below_zero() -> None:
    """exp(−z) overflows float32 at z = −89; the value there is 0 to all digits."""
    x = jnp.asarray([-1.0, 1, 1, 1]).reshape(4, 1, 1, 1)
    one = jnp.ones(1)
    for name in ("kernels", "shift", "native"):
        y, pull = jax.vjp(lambda x, name=name: named(name).normalise(x, 200 * one, 0 * one, "swish")[0], x)
        assert np.isfinite(y).all()
        assert np.isfinite(pull(jnp.ones_like(y))[0]).all()
        assert abs(float(y[0, 0, 0, 0])) < 1e-30


@pytest.mark.parametrize("channels", [1, 3, 8, 9, 24, 33, 130])
@pytest.mark.parametrize("activation", KERNEL_ACTIVATIONS)
def test_kernels_of_any_number_of_channels(activation: Any, channels: int) -> None:
    """Rows are taken together until they fill vectors, and what is left over is less than a period."""
    rng = np.random.default_rng(channels)
    x, g = (rng.normal(size=(7, 5, 11, channels)).astype(np.float32) for _ in range(2))
    scale, bias = (rng.normal(size=channels).astype(np.float32) + 1 for _ in range(2))
    results = []
    for name in ("kernels", "native"):
        y, pull = jax.vjp(lambda *a, name=name: named(name).normalise(*a, activation)[0], x, scale, bias)
        results.append((y, *pull(g)))
    for actual, expected in zip(*results, strict=True):
        close(actual, expected)


@pytest.mark.parametrize("name", ["kernels", "shift", "native"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_evaluation_by_given_statistics(activation: Any, name: Any) -> None:
    x, scale, bias, _ = example(0.3)
    mean, variance = np.array([0.1, -2, 3], np.float32), np.array([0.5, 2, 9], np.float32)
    z = (x.astype(np.float64) - mean) / np.sqrt(variance + EPSILON) * scale + bias
    expected = {"swish": z / (1 + np.exp(-z)), "relu": z.clip(0), "relu6": z.clip(0, 6), "none": z}
    expected["hard_swish"] = z * (z + 3).clip(0, 6) / 6
    expected["gelu"] = z * (1 + np.vectorize(math.erf)(z / 2**0.5)) / 2
    close(named(name).normalise_by(jnp.asarray(x), scale, bias, mean, variance, activation), expected[activation])


@pytest.mark.parametrize("activation", KERNEL_ACTIVATIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_kernels_pass_on_values_that_are_not_finite(bad: float, activation: Any) -> None:
    """The loss of a diverging network must show it."""
    x, scale, bias, g = example(0.0)
    x[1, 2, 3, 1] = bad
    y, pull = jax.vjp(lambda x: named("kernels").normalise(x, scale, bias, activation)[0], jnp.asarray(x))
    assert np.isnan(np.asarray(y)[..., 1]).any()
    assert np.isfinite(np.asarray(y)[..., 0]).all()
    assert np.isnan(np.asarray(pull(jnp.asarray(g))[0])[..., 1]).any()


def test_the_kernel_of_swish_over_all_of_float32() -> None:
    """Each value far from the others alone in its channel, so that the statistics are given: σ to a few units."""
    z = np.concatenate([np.linspace(-100, 100, 4001), [-1e30, -1e4, 1e4, 1e30, 0]]).astype(np.float32)
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    gain = np.float32(1) / np.sqrt(np.float32(1) + np.float32(EPSILON))
    x = jnp.asarray(z).reshape(-1, 1, 1, 1)
    y = np.asarray(named("kernels").normalise_by(x, one, zero, zero, one, "swish")).ravel()
    wide = (z * gain).astype(np.float64)
    expected = wide / (1 + np.exp(np.minimum(-wide, 700)))
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=1e-35)
