"""The kernels are known to XLA before any test of these calls one."""

from __future__ import annotations

import pytest

from scalesearch.models.ops.cpu import library


@pytest.fixture(scope="session", autouse=True)
def _kernels() -> None:
    assert library.problem() is None
