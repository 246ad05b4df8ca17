from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.training.average import update_average


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_weights_are_exponential_and_sum_to_one(decay: float, count: int) -> None:
    values = np.random.default_rng(0).normal(size=(count, 4))
    average = {"w": jnp.full(4, 100.0)}  # whatever it starts from has no part in it
    for index, value in enumerate(values, start=1):
        average = update_average(average, {"w": jnp.asarray(value, jnp.float32)}, jnp.int32(index), decay)
    weights = decay ** np.arange(count)[::-1]
    np.testing.assert_allclose(average["w"], weights @ values / weights.sum(), atol=5e-5)  # 100 − 100 in float32
