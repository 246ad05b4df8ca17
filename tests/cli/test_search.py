"""The commands of a search, on real data and tiny networks: run, resume, interrupt, status, report, worker."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from scalesearch.cli.main import main
from scalesearch.export.rule_json import parse_rule
from scalesearch.results.load import load
from scalesearch.runtime.folders import locked_folder
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.trials import has_record
from tests.cli.tiny import HEEDS_INTERRUPTS, ROOT, TINY, complaint, environment, scalesearch

FILES = [
    "candidates.csv", "candidates.parquet", "coefficients.json", "reference.json", "report.html", "study.db",
    "study.toml", "trials.csv", "trials.parquet",
]  # fmt: skip
OF_ITS_OWN = [("batch_size = 50", f"batch_size = {size}") for size in (40, 25)]
"""Of workers with a part of the cores: programs that other tests keep for all cores would be told of."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A real run of the whole job, from an empty folder."""
    folder = tmp_path_factory.mktemp("finished")
    study = folder / "tiny.toml"
    study.write_text(TINY, encoding="utf-8")
    return folder / "run", scalesearch("run", "--budget", "2", "--study", study, "--out", folder / "run")


@pytest.mark.slow
class TestRun:
    def test_does_the_whole_job(self, finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
        folder, done = finished
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        assert [line[:5] for line in done.stderr.splitlines()] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
        for told in ("Candidates", "Signal", "Choice", "Family", f"Files in {folder}: candidates.csv"):
            assert told in done.stdout
        assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == FILES
        run = load(folder)
        assert done.stderr.startswith("[1/4] baseline 1-1 × 4-8 at 6 px: val_loss ")  # first, and no candidate
        assert run.reference is not None
        assert [seed.seed for seed in run.reference.seeds] == [0, 1]
        assert run.states == {"waiting": 0, "running": 0, "complete": 3, "pruned": 0, "failed": 0}
        assert {record.device for record in run.records} == {run.rule.provenance["device"]}
        assert all(len(seed.val_loss_curve) == 2 for record in run.records for seed in record.seeds)
        rule = parse_rule(json.loads((folder / "coefficients.json").read_text(encoding="utf-8")))
        assert rule.coefficients.product == pytest.approx(2.0, abs=1e-9)
        assert rule.to_json()["provenance"]["fingerprint"] == json.loads(json.dumps(dict(run.fingerprint)))

    def test_again_it_resumes_with_nothing_to_train(
        self,
        finished: tuple[Path, subprocess.CompletedProcess[str]],
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        folder = tmp_path / "run"
        shutil.copytree(finished[0], folder)
        before = json.loads((folder / "coefficients.json").read_text(encoding="utf-8"))
        assert main(["run", "--study", str(folder / "study.toml"), "--out", str(folder), "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == "all trials are finished: nothing to train\n"
        document = json.loads(out)
        assert document["trials"] == {"waiting": 0, "running": 0, "complete": 3, "pruned": 0, "failed": 0}
        assert document["files"] == FILES
        assert list(document) == [
            "study", "budget", "metric", "trials", "leaders", "signal", "rule", "nearest", "family", "folder",
            "files", "reference", "standing",
        ]  # fmt: skip
        assert [member["phi"] for member in document["family"]] == [0, 1, 2, 3]
        after = json.loads((folder / "coefficients.json").read_text(encoding="utf-8"))
        assert before == after == document["rule"]

    def test_status_and_report_tell_of_it(
        self,
        finished: tuple[Path, subprocess.CompletedProcess[str]],
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        folder = tmp_path / "run"
        shutil.copytree(finished[0], folder)
        assert main(["status", str(folder), "--json"]) == 0
        out, err = capsys.readouterr()
        status = json.loads(out)
        assert err == ""
        assert list(status) == [
            "study", "budget", "metric", "trials", "leaders", "signal", "workers", "throughput", "seconds_left",
            "failures", "finished",
        ]  # fmt: skip
        assert status["finished"]
        assert (status["workers"], status["failures"], status["seconds_left"]) == ([], [], None)
        assert status["trials"] == {"waiting": 0, "running": 0, "complete": 3, "pruned": 0, "failed": 0}
        assert len(status["leaders"]) == 3
        assert main(["status", str(folder)]) == 0
        assert capsys.readouterr().out.startswith("tiny: 3 trials complete, 0 failed, 0 running, 0 waiting\n")
        for name in ("report.html", "trials.csv", "coefficients.json"):
            (folder / name).unlink()
        assert main(["report", str(folder)]) == 0
        assert f"Files in {folder}: {', '.join(FILES)}" in capsys.readouterr().out
        assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == FILES

    def test_with_other_settings_is_refused(
        self,
        finished: tuple[Path, subprocess.CompletedProcess[str]],
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        folder = tmp_path / "run"
        shutil.copytree(finished[0], folder)
        study = folder / "study.toml"
        before = study.read_text(encoding="utf-8")

        def refused(*flags: str) -> str:
            assert main(["run", "--study", str(study), "--out", str(folder), *flags]) == 3
            return capsys.readouterr().err

        assert "`budget` was 2.0, now 3.0" in refused("--budget", "3")
        told = refused("--seeds", "3", "--tolerance", "0.15")
        assert told.count("\n") == 1
        assert "`seeds` was 2, now 3, `tolerance` was 0.1, now 0.15" in told
        assert study.read_text(encoding="utf-8") == before

    def test_an_interrupt_in_mid_trial_leaves_130_and_resumes(
        self, tiny: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tiny.parent / "run"
        arguments = ["run", "--study", str(tiny), "--out", str(folder)]
        process = subprocess.Popen(
            [sys.executable, "-c", HEEDS_INTERRUPTS, *arguments],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("[1/4] baseline")
            assert process.stderr.readline().startswith("[2/4]")
            for number in [signal.SIGTERM, signal.SIGINT] * 4:
                process.send_signal(number)
                time.sleep(0.002)
            told = process.stderr.read()
        assert process.returncode == 130, told
        assert told.splitlines()[-1] == "scalesearch: interrupted; run the same command again to resume"
        assert "Traceback" not in told
        assert main(["status", str(folder)]) == 0
        assert ", 0 running, " in capsys.readouterr().out
        before = load(folder)
        assert 1 <= before.states["complete"] < 3
        assert before.states["waiting"] == 3 - before.states["complete"]  # it went back: other workers can take it
        assert main(arguments) == 0
        assert len(capsys.readouterr().err.splitlines()) == 3 - before.states["complete"]
        after = load(folder)
        assert set(before.records) < set(after.records)
        assert len(after.records) == 3

    @pytest.mark.long
    def test_workers_share_the_trials(self, tiny: Path) -> None:
        # Trials long enough for the second worker, which has to start, to find some left.
        study = TINY.replace("epochs = 2", "epochs = 100").replace("seeds = 2", "seeds = 4")
        tiny.write_text(study.replace(*OF_ITS_OWN[0]), encoding="utf-8")
        folder = tiny.parent / "run"
        done = scalesearch("run", "--study", tiny, "--out", folder, "--workers", "2", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["trials"] == {
            "waiting": 0,
            "running": 0,
            "complete": 3,
            "pruned": 0,
            "failed": 0,
        }
        assert [line[:5] for line in done.stderr.splitlines()] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
        stored = studies.join_study(open_storage(sqlite_url(folder)), "tiny")
        trials = [trial for trial in stored.trials if has_record(trial)]
        spans = sorted((trial.datetime_start, trial.datetime_complete) for trial in trials)
        # Which two overlap depends on how long the second worker takes to start; one worker alone overlaps nowhere.
        assert any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans)), spans

    @pytest.mark.postgresql
    def test_on_a_server_the_folder_gets_a_copy_and_a_worker_may_join(
        self, tiny: Path, postgresql_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The password is where the user put it, and nowhere else: no process shows it, and no file or output."""
        tiny.write_text(TINY.replace(*OF_ITS_OWN[1]), encoding="utf-8")
        folder, where = tiny.parent / "run", tiny.parent / "storage"
        secret = "p@ss:w%rd/&"
        url = make_url(postgresql_url)
        with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as connection:
            role = SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(Identifier(url.database), secret)
            connection.execute(role)
        url = url.set(username=url.database, password=secret)
        where.write_text(url.render_as_string(hide_password=False), encoding="utf-8")
        where.chmod(0o600)
        arguments = ["run", "--study", tiny, "--out", folder, "--storage", f"@{where}", "--study-name", "shared"]
        shown: set[bytes] = set()
        with subprocess.Popen(
            [sys.executable, "-m", "scalesearch", *map(str, arguments), "--workers", "2"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            while process.poll() is None:
                shown |= {each for pid in family(process.pid) for each in shown_of(pid)}
                time.sleep(0.1)
            assert process.stdout is not None
            told = process.stdout.read()
        assert process.returncode == 0, told
        assert any(b"scalesearch.search.worker" in line for line in shown)
        forms = (secret.encode(), quote(secret, safe="").encode(), quote(secret).encode(), b"w%rd", b"w%25rd")
        written = {path.name: path.read_bytes() for path in folder.iterdir()}
        for text in (*shown, told, *written.values()):
            assert not any(form in text for form in forms)
        assert sorted(written.keys() - {".lock"}) == FILES
        monkeypatch.setenv("SCALESEARCH_STORAGE", f"@{where}")
        assert main(["status", str(folder), "--json"]) == 0
        live = json.loads(capsys.readouterr().out)
        monkeypatch.delenv("SCALESEARCH_STORAGE")
        assert main(["status", str(folder), "--json"]) == 0
        copy = json.loads(capsys.readouterr().out)
        assert live == copy
        assert live["trials"]["complete"] == 3
        monkeypatch.setenv("SCALESEARCH_STORAGE", f"@{where}")
        assert main(["worker", "--study-name", "shared"]) == 0
        assert capsys.readouterr() == ("", "shared: no trial is left\n")

    def test_a_trial_that_diverges_is_told_and_gives_5(self, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tiny.write_text(TINY.replace("learning_rate = 0.01", "learning_rate = 1e30"), encoding="utf-8")
        folder = tiny.parent / "run"
        done = scalesearch("run", "--study", tiny, "--out", folder)
        assert done.returncode == 5, done.stderr
        assert "failed (diverged: loss must stay finite" in done.stderr
        assert "No candidate finished" in done.stdout
        assert "Traceback" not in done.stderr
        assert main(["run", "--study", str(tiny), "--out", str(folder), "--json"]) == 5
        out, err = capsys.readouterr()
        document = json.loads(out)
        assert (document["trials"]["failed"], document["rule"], document["family"]) == (3, None, [])
        assert err == "all trials are finished: nothing to train\n"

    def test_two_runs_in_one_folder_are_refused(self, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with locked_folder(tiny.parent / "run"):
            line = complaint(capsys, "run", "--study", tiny, "--out", tiny.parent / "run")
        assert "another scalesearch command is already using this folder" in line


def family(pid: int) -> set[int]:
    """A process and its descendants that live at this moment."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    members = {pid}
    while more := {child for child, parent in parents.items() if parent in members} - members:
        members |= more
    return members


def shown_of(pid: int) -> set[bytes]:
    """What a process shows to others: its command line, and its environment to those of the same user."""
    lines = set()
    for name in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            lines.add(Path(f"/proc/{pid}/{name}").read_bytes())
    return lines
