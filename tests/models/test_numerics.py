"""The numerics check itself: it passes here, and it fails for operations that are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import pytest

from scalesearch.models import numerics
from scalesearch.models.ops.shift.operations import ShiftOperations


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_all_operations_pass_on_this_device(precision: Any) -> None:
    checks = numerics.check_operations(precision)
    assert {check.precision for check in checks} == {precision}
    assert {check.operations for check in checks} == {"kernels", "shift", "native"}
    assert {check.op for check in checks} == {"depthwise", "dense", "pointwise"}
    assert [check for check in checks if not check.passed] == []


@dataclass(frozen=True)
class WrongOperations(ShiftOperations):
    """Their depthwise convolutions are off by a factor."""

    factor: float = 1.0

    def depthwise(self, x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
        return self.factor * super().depthwise(x, kernel, stride)


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_operations_that_are_off_fail(factor: float) -> None:
    checks = numerics.check_operations(operations=[WrongOperations(factor=factor)])
    assert {check.op for check in checks if not check.passed} == {"depthwise"}
    assert {check.op for check in checks if check.passed} == {"dense", "pointwise"}
