"""The numerics check itself: it passes here, and it fails for a form that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from scalesearch.models import numerics


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_form_passes_on_this_device(precision: Any) -> None:
    checks = numerics.check_operations(precision)
    assert {check.precision for check in checks} == {precision}
    assert {check.form for check in checks} == {"kernels", "shift", "native"}
    assert {check.op for check in checks} == {"depthwise", "dense", "pointwise"}
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_a_form_that_is_off_fails(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    right = numerics.convolve_depthwise

    def wrong(*arguments: Any, **options: Any) -> Any:
        return factor * right(*arguments, **options)

    monkeypatch.setattr(numerics, "convolve_depthwise", wrong)
    monkeypatch.setattr(numerics, "_GEOMETRIES", (("depthwise", 3, 1), ("pointwise", 1, 1)))
    assert [check.op for check in numerics.check_operations() if not check.passed] == ["depthwise"] * 3
