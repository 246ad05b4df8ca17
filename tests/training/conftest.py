"""Compiled programs of these tests are kept for the length of the session, in a folder of their own."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

from scalesearch.training.cache import enable_compilation_cache

_OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in _OPTIONS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALESEARCH_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        enable_compilation_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
