"""The cores that a process keeps to."""

from __future__ import annotations

import os

import pytest

from scalesearch.errors import InputError
from scalesearch.runtime.cores import usable_cores, use_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity")
@pytest.mark.parametrize("core", [10**5, 10**9 - 1, 10**12])
def test_a_core_that_is_not_there_is_one_line(core: int) -> None:
    before = usable_cores()
    with pytest.raises(InputError, match=f"^there is no core {core}: this process has 0"):
        use_cores([core])
    assert usable_cores() == before
