"""The exponential moving average of weights and batch statistics."""

from __future__ import annotations

from typing import TypeVar

import jax
from jaxtyping import Array, Int

Tree = TypeVar("Tree")


def update_average(average: Tree, values: Tree, count: Int[Array, ""], decay: float) -> Tree:
    """The average of v₁ … v_t with weights ∝ d^(t − i), given that of v₁ … v_{t−1}; t = `count`, d = `decay`.

    a_t = a_{t−1} + (1 − d)/(1 − d^t)·(v_t − a_{t−1}): the correction that Adam makes for its start
    (arXiv:1412.6980 §3), so neither a₀ nor the initial weights have a part in it, however short the schedule.
    """
    rate = (1 - decay) / (1 - decay ** count.astype("float32"))
    return jax.tree.map(lambda a, v: a + rate * (v - a), average, values)
