"""Compiled programs of these tests are kept for the length of the session, in a folder of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scalesearch import cache


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_in_use", [])
        patch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        cache.enable_compilation_cache()
        yield
