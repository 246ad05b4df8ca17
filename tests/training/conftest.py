"""Programs that these tests compile are kept for the length of the session; the kernels are known to XLA."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scalesearch.models.ops.cpu import library
from scalesearch.runtime import cache


@pytest.fixture(scope="session", autouse=True)
def _session_cache(compilation_cache: None) -> Iterator[None]:
    del compilation_cache  # whose folder it is
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_in_use", [])
        cache.enable_compilation_cache()
        assert library.problem() is None
        yield
