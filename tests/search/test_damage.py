"""A storage that holds something else than what was written: the study and the trial are named, nothing is changed."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from scalesearch.cli.main import main

RUN = Path(__file__).parents[1] / "golden" / "run_0_1"
TRIAL = "UPDATE trial_user_attributes SET value_json = '{}' WHERE trial_id = 4 AND key = '{}'"
ADDED = "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (4, '{}', '{}')"
TO_STUDY = "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, '{}', '{}')"
STUDY = "UPDATE study_user_attributes SET value_json = '{}' WHERE key = '{}'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("study.toml", "study.db"):
        shutil.copy(RUN / name, tmp_path)
    return tmp_path


def change(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "study.db") as database:
        assert database.execute(statement).rowcount


@pytest.mark.parametrize(
    ("statement", "place", "reason"),
    [
        (TRIAL.format("{}", "record"), "trial 3 ", "missing key `candidate`"),
        (TRIAL.format("3", "record"), "trial 3 ", "but got 3"),
        (TRIAL.format("{}", "candidate"), "trial 3 ", "missing key `alpha`"),
        (TRIAL.format("[]", "seeds"), "trial 3 ", "`seeds` must be a list of whole numbers"),
        (TRIAL.format('["0"]', "seeds"), "trial 3 ", "`seeds` must be a list of whole numbers"),
        (ADDED.format("worker", "[]"), "trial 3 ", "`worker` must be an object, but got []"),
        (ADDED.format("beat", "[1]"), "trial 3 ", "`beat` must be a count and a fraction, but got [1]"),
        (ADDED.format("deaths", "[1]"), "trial 3 ", "`deaths` must be a list of texts, but got [1]"),
        (TRIAL.format("no JSON", "record"), "trial 3 ", "JSONDecodeError"),
        ("DELETE FROM trial_user_attributes WHERE trial_id = 4 AND key = 'seeds'", "trial 3 ", "`seeds`"),
        ("UPDATE trials SET state = 'LOST' WHERE trial_id = 4", "trial 3 ", "LookupError"),
        ("UPDATE trials SET number = 'x' WHERE trial_id = 4", "trial 3 ", "its number is 'x'"),
        ("DELETE FROM trials WHERE trial_id = 4", "trial 3 ", "its number is 4"),
        ("UPDATE trial_params SET distribution_json = '{}' WHERE trial_id = 4", "trial 3 ", "no 'type'"),
        (STUDY.format("{}", "study"), "", "`study` is {}"),
        (STUDY.format("[]", "fingerprint"), "", "`fingerprint` is []"),
        (STUDY.format("{}", "fingerprint"), "", "`fingerprint` is {}"),
        (TO_STUDY.format("schema", "true"), "", "`schema` is True"),
        (TO_STUDY.format("extended to seeds 3", '{"seeds": "3"}'), "", "`extended to seeds 3` is {"),
        (TO_STUDY.format("extended to size 3", '{"size": 3}'), "", "`extended to size 3` is {"),
        (STUDY.format("no JSON", "study"), "", "JSONDecodeError"),
        ("INSERT INTO study_user_attributes VALUES (99, 1, NULL, '1')", "", "an attribute has no name"),
    ],
)
def test_a_damaged_row_is_named(
    folder: Path, statement: str, place: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, statement)
    before = (folder / "study.db").read_bytes()
    assert main(["status", str(folder)]) == 4
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for part in ("study.db", "mnist_sample", "damaged", place, reason):
        assert part in said
    assert (folder / "study.db").read_bytes() == before


def test_a_table_that_is_missing_is_damage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(folder / "study.db") as database:
        database.execute("DROP TABLE trial_user_attributes")
    assert main(["status", str(folder)]) == 4
    assert "is damaged (no such table: trial_user_attributes)" in capsys.readouterr().err


def test_a_study_that_names_the_users_own_code_may_lack_it_here(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(
        folder,
        "UPDATE study_user_attributes SET value_json = json_set(value_json, '$.baseline.module', 'no_such_nets:Net') "
        "WHERE key = 'study'",
    )
    assert main(["status", str(folder)]) == 2
    assert "there is no module `no_such_nets`" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", None])
def test_status_writes_nothing_into_an_empty_database(
    folder: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "study.db").unlink()
    if content is None:  # a database without tables
        with sqlite3.connect(folder / "study.db") as database:
            database.execute("PRAGMA user_version = 1")
    else:
        (folder / "study.db").write_bytes(content)
    before = (folder / "study.db").read_bytes()
    assert main(["status", str(folder)]) == 4
    assert "holds no study" in capsys.readouterr().err
    assert (folder / "study.db").read_bytes() == before
