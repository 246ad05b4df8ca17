"""Half a minute of faults at random (`tests.chaos`): each trial is complete once, as in a run that nobody disturbed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scalesearch.search.queue.storage import sqlite_url
from tests.chaos import QUICK, is_sound, run
from tests.postgresql import PostgresqlServer


@pytest.mark.slow
@pytest.mark.postgresql
def test_chaos_on_postgresql_loses_nothing(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    result = run(QUICK, postgresql.create_database(), tmp_path, postgresql)
    assert is_sound(result), result
    assert result["faults"].keys() >= {"kill", "terminate", "cut", "restart"}
    assert result["states"] == {"waiting": 0, "running": 0, "complete": QUICK.trials, "pruned": 0, "failed": 0}
    assert result["trained_more_than_needed"] < 1.0


@pytest.mark.long
def test_chaos_on_sqlite_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    result = run(dataclasses.replace(QUICK, seed=1), sqlite_url(tmp_path / "run"), tmp_path)
    assert is_sound(result), result
    assert result["states"] == {"waiting": 0, "running": 0, "complete": QUICK.trials, "pruned": 0, "failed": 0}
