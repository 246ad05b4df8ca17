"""Programs that these tests compile are kept for the length of the session; the kernels are known to XLA."""

from __future__ import annotations

import pytest

from scalesearch.models.ops.cpu import library


@pytest.fixture(scope="session", autouse=True)
def _kernels(compilation_cache: None) -> None:
    del compilation_cache  # which names the folder
    assert library.problem() is None
