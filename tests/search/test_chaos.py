"""A minute of chaos: workers die, stop and are preempted, the storage is away; nothing is lost or counted twice."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from scalesearch.analysis.tables import candidates_table
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from tests.chaos import OF_SQLITE, QUICK, Report, chaos, expected_records, of_server
from tests.planted import planted_study
from tests.postgresql import Server

STUDY = planted_study(design={"degree": 6}, seeds=1)
SECONDS = 15.0


def check(url: str, report: Report) -> None:
    optuna_study = studies.join_study(open_storage(url), STUDY.name)
    trials = len(make_plan(STUDY).distinct)
    assert report.unexplained == []
    assert sum(report.faults.values()) >= 4
    nothing = {"waiting": 0, "running": 0, "pruned": 0, "failed": 0}
    assert studies.count_states(optuna_study) == {**nothing, "complete": trials}
    assert len(optuna_study.trials) == trials
    records, expected = studies.records(optuna_study), expected_records(STUDY)
    assert {record.candidate.spec: record.seeds for record in records} == {
        record.candidate.spec: record.seeds for record in expected
    }
    tables = [candidates_table(each, STUDY.budget, STUDY.metric) for each in (records, expected)]
    pd.testing.assert_frame_equal(*(table.drop(columns=["candidate"]).reset_index(drop=True) for table in tables))


@pytest.mark.slow
@pytest.mark.postgresql
def test_workers_on_a_server(tmp_path: Path, postgresql: Server) -> None:
    url = postgresql.create_database()
    check(url, chaos(url, STUDY, tmp_path, of_server(postgresql), workers=4, seconds=SECONDS, pace=QUICK))


@pytest.mark.long
def test_workers_on_a_file(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    check(url, chaos(url, STUDY, tmp_path, OF_SQLITE, workers=4, seconds=SECONDS, pace=QUICK, seed=1))
