"""The exponential moving average of weights and batch statistics."""

from __future__ import annotations

import math
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

Tree = TypeVar("Tree")


def update_average(average: Tree, values: Tree, count: Int[Array, ""], decay: float) -> Tree:
    """The average of v₁ … v_t with weights ∝ d^(t − i), given that of v₁ … v_{t−1}; t = `count`, d = `decay`.

    a_t = a_{t−1} + (1 − d)/(1 − d^t)·(v_t − a_{t−1}): the correction that Adam makes for its start
    (arXiv:1412.6980 §3), so a₀ has no weight, however short the schedule.
    """
    # 1 − d^t through expm1: near d = 1 the difference would lose most of float32's digits
    rate = (1 - decay) / -jnp.expm1(count.astype(jnp.float32) * math.log(decay))
    updated: Tree = jax.tree.map(lambda a, v: a + rate * (v - a), average, values)
    return updated
