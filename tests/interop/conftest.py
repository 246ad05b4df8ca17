"""Tests against timm, torchvision and transformers, installed by `make test-interop`; elsewhere none is collected."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

LIBRARIES = ("timm", "torch", "torchvision", "transformers")
_DIFFERENCES: list[tuple[str, str, float, float]] = []

if any(importlib.util.find_spec(name) is None for name in LIBRARIES):
    collect_ignore_glob = ["test_*.py"]
else:
    import torch

    # A torchvision for CUDA beside a PyTorch for CPUs: its compiled operations cannot be loaded, and its import fails
    # for the lack of two that no network here uses.
    try:
        torch.ops.load_library(Path(importlib.util.find_spec("torchvision").origin).with_name("_C.so"))
    except OSError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@pytest.fixture
def differ():
    """Keeps the largest difference of logits for the table at the end."""

    def record(what: str, ours, theirs) -> float:
        difference, largest = float(abs(ours - theirs).max()), float(abs(theirs).max())
        _DIFFERENCES.append((what, f"{tuple(theirs.shape)}", difference, largest))
        return difference

    return record


def pytest_terminal_summary(terminalreporter) -> None:
    """The table of the largest differences."""
    if _DIFFERENCES:
        terminalreporter.section("largest differences of logits")
        for what, shape, difference, largest in _DIFFERENCES:
            terminalreporter.write_line(f"{what:<64} {shape:<12} {difference:.1e}  of logits up to {largest:.2g}")
