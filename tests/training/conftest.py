"""Programs that these tests compile are kept for the length of the session; the kernels are known to XLA."""

from __future__ import annotations

import pytest

from scalesearch.models.ops.cpu import library
from scalesearch.runtime.cache import folder_in_use
from scalesearch.runtime.program_cache import use_program_cache


@pytest.fixture(scope="session", autouse=True)
def _kernels_and_programs(compilation_cache: None) -> None:
    del compilation_cache  # which names the folder
    assert library.problem() is None
    folder = folder_in_use()
    assert folder is not None
    use_program_cache(folder)
