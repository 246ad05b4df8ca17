"""The choice of operations: by the setting, the backend, the precision, and what the machine has."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from scalesearch.errors import InputError
from scalesearch.models.ops.cpu import library
from scalesearch.models.ops.select import available, named, select


def names(backend: str) -> list[str]:
    return [operations.name for operations in available(backend)]


@pytest.mark.parametrize(
    ("setting", "backend", "precision", "sharded", "name"),
    [
        ("auto", "cpu", "float32", False, "kernels"),
        ("auto", "cpu", "bfloat16", False, "shift"),
        ("auto", "cpu", "float32", True, "shift"),
        ("auto", "gpu", "float32", False, "pallas"),
        ("auto", "gpu", "bfloat16", False, "pallas"),
        ("auto", "gpu", "bfloat16", True, "native"),
        ("auto", "tpu", "bfloat16", True, "native"),
        ("kernels", "cpu", "float32", False, "kernels"),
        ("pallas", "gpu", "float32", False, "pallas"),
        ("shift", "gpu", "bfloat16", True, "shift"),
        ("native", "cpu", "bfloat16", True, "native"),
    ],
)
def test_by_setting_backend_precision_and_sharding(
    setting: Any, backend: str, precision: Any, sharded: bool, name: Any
) -> None:
    assert select(setting, backend, precision=precision, sharded=sharded) == named(name)


@pytest.mark.parametrize(
    ("setting", "backend", "precision", "sharded", "reason"),
    [
        ("kernels", "gpu", "float32", False, "kernels are for CPUs, but jax computes on a gpu"),
        ("pallas", "cpu", "float32", False, "pallas is for GPUs, but jax computes on a cpu"),
        ("kernels", "cpu", "bfloat16", False, "kernels compute whole batches in float32"),
        ("kernels", "cpu", "float32", True, "kernels compute whole batches in float32"),
        ("pallas", "gpu", "bfloat16", True, "pallas computes whole batches"),
    ],
)
def test_a_setting_that_cannot_be_had_is_refused(
    setting: Any, backend: str, precision: Any, sharded: bool, reason: str
) -> None:
    with pytest.raises(InputError, match=f'^`runtime.convolutions` = "{setting}" is not available here: {reason}'):
        select(setting, backend, precision=precision, sharded=sharded)


def test_without_kernels_a_cpu_takes_the_next_best_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "problem", lambda: "no C++ compiler was found")
    with pytest.warns(UserWarning, match=r"more slowly than they could: no C\+\+ compiler was found"):
        assert select("auto", "cpu") == named("shift")
    with pytest.raises(InputError, match=r"no C\+\+ compiler"):
        select("kernels", "cpu")
    assert names("cpu") == ["shift", "native"]


def test_without_pallas_a_gpu_takes_the_library_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    monkeypatch.delattr("jax.experimental.pallas.triton", raising=False)
    with pytest.warns(UserWarning, match="more slowly than they could: jax .* has no Pallas for Triton"):
        assert select("auto", "gpu") == named("native")
    with pytest.raises(InputError, match="no Pallas"):
        select("pallas", "gpu")
    assert names("gpu") == ["shift", "native"]


def test_each_backend_has_operations_written_for_it() -> None:
    assert names("cpu") == ["kernels", "shift", "native"]
    assert names("gpu") == ["pallas", "shift", "native"]
    assert names("tpu") == ["shift", "native"]
