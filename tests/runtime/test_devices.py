"""Devices of worker processes: one GPU each, in turn; memory is shared where a GPU is."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalesearch.runtime import devices
from scalesearch.runtime.devices import environments, visible_gpus


def test_each_worker_gets_its_own_gpu() -> None:
    assert environments(2, ["0", "3"], {}) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]


def test_workers_that_share_a_gpu_share_its_memory_unless_the_user_has_said_how_much() -> None:
    shared = environments(3, ["GPU-a", "GPU-b"], {})
    assert [one["CUDA_VISIBLE_DEVICES"] for one in shared] == ["GPU-a", "GPU-b", "GPU-a"]
    assert [one.get("XLA_PYTHON_CLIENT_MEM_FRACTION") for one in shared] == ["0.450", None, "0.450"]
    own = environments(2, ["0"], {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"})
    assert own == [{"CUDA_VISIBLE_DEVICES": "0"}] * 2


def test_one_worker_keeps_all_devices_and_a_cpu_needs_none() -> None:
    assert environments(1, ["0", "1"], {}) == [{}]
    assert all("CUDA_VISIBLE_DEVICES" not in one for one in environments(4, [], {}))


class Plugin:
    name = "xla_cuda13"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "entry_points", lambda group: [Plugin()])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,5"}, ["2", "5"]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1, MIG-2"}, ["MIG-1", "MIG-2"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0", "JAX_PLATFORMS": "cpu"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0", "JAX_PLATFORMS": "cuda,cpu"}, ["0"]),
    ],
)
def test_what_the_user_made_visible_is_taken(cuda: None, environment: dict[str, str], expected: list[str]) -> None:
    assert visible_gpus(environment) == expected


def test_the_driver_lists_the_gpus(cuda: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert visible_gpus({}) == ["0", "1"]
    program.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n", encoding="utf-8")  # without a driver
    assert visible_gpus({}) == []


def test_without_the_plugin_of_jax_there_are_none() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}) == []
