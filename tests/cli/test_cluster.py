"""The files of studies/cluster: each is checked, and carried out with the real signals, server and command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
import yaml
from sqlalchemy import make_url

from scalesearch.cli.commands import build_parser
from scalesearch.search.engine import init
from scalesearch.search.queue.optuna_study import join_study
from scalesearch.search.queue.storage import open_storage, sqlite_url, study_names
from scalesearch.search.queue.storage_url import has_password
from scalesearch.study.load import load_study
from tests.cli.tiny import ROOT, TINY

CLUSTER = ROOT / "studies" / "cluster"
SCHEMA = ROOT / "tests" / "golden" / "kubernetes_job.json"
SECONDS = 120.0


def test_the_scripts_are_clean() -> None:
    scripts = sorted(path for path in CLUSTER.iterdir() if path.suffix in (".sh", ".sbatch"))
    assert [path.name for path in scripts] == ["postgresql.sh", "slurm.sbatch", "tpu_hosts.sh"]
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_kubernetes_job_is_one_and_runs_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    job = yaml.safe_load((CLUSTER / "kubernetes.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(job, json.loads(SCHEMA.read_text(encoding="utf-8")))
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (worker,) = pod["containers"]
    # A Job without `completions` is a queue that the pods empty; `podFailurePolicy` needs pods that do not restart.
    assert spec["parallelism"] > 1
    assert "completions" not in spec
    assert pod["restartPolicy"] == "Never"
    assert {each["name"] for each in worker["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    variables = {each["name"]: each.get("value") for each in worker["env"]}
    assert [name for name, value in variables.items() if value is None] == ["PGPASSWORD"]  # from the Secret
    program, command, *flags = worker["args"]
    assert (program, command) == ("scalesearch", "worker")
    arguments = build_parser((command,)).parse_args([command, *flags])
    assert (arguments.study_name, arguments.data) == ("my_study", "folder:/data/images")
    assert arguments.storage is None
    monkeypatch.setenv("SCALESEARCH_STORAGE", variables["SCALESEARCH_STORAGE"])
    assert not has_password(variables["SCALESEARCH_STORAGE"])


@pytest.mark.postgresql
def test_postgresql_in_three_commands(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    url = make_url(postgresql_url)
    place = {"PGHOST": str(url.host), "PGPORT": str(url.port), "PGUSER": str(url.username)}
    command = [str(CLUSTER / "postgresql.sh")]
    administrator = {**os.environ, **place, "PGPASSWORD": str(url.password)}
    subprocess.run(command, cwd=tmp_path, env=administrator, check=True)
    file = tmp_path / "scalesearch.pgpass"
    password = file.read_text(encoding="utf-8").rstrip("\n").rpartition(":")[2]
    assert (len(password), file.stat().st_mode & 0o777) == (48, 0o600)
    assert password not in "".join(capfd.readouterr())

    monkeypatch.setenv("PGPASSFILE", str(file))
    shared = f"postgresql://scalesearch@{url.host}:{url.port}/scalesearch"
    assert study_names(open_storage(shared)) == []
    with psycopg.connect(shared) as connection:
        rights = (
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication FROM pg_roles WHERE rolname = current_user"
        )
        assert connection.execute(rights).fetchone() == (False, False, False, False)

    again = subprocess.run(command, cwd=tmp_path, env=administrator, capture_output=True, text=True, check=False)
    assert "scalesearch.pgpass: cannot overwrite existing file" in again.stderr
    assert password in file.read_text(encoding="utf-8")
    other = tmp_path / "other"
    other.mkdir()
    again = subprocess.run(command, cwd=other, env=administrator, capture_output=True, text=True, check=False)
    assert (again.returncode, [*other.iterdir()]) == (1, [])
    assert 'role "scalesearch" already exists' in again.stderr


def programs(folder: Path, **scripts: str) -> dict[str, str]:
    """An environment in which commands of these names do what the scripts say."""
    folder.mkdir()
    for name, script in scripts.items():
        path = folder / name
        path.write_text(f"#!/usr/bin/env bash\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_each_tpu_host_gets_the_password_as_a_file_and_a_worker_of_its_own(tmp_path: Path) -> None:
    gcloud = """
        echo "gcloud $*" >>calls
        for word; do case $word in
            scalesearch.pgpass) cp "$word" "$HOME/.pgpass" ;;
            --command=*) cd "$HOME" && bash -c "${word#--command=}" ;;
        esac; done
    """
    host = """
        echo "$SCALESEARCH_STORAGE $TPU_PROCESS_BOUNDS $TPU_CHIPS_PER_PROCESS_BOUNDS"
        printf "<%s>" "$@"
        stat -c %a .pgpass
    """
    storage = "postgresql://me@host/db?a=b&c='d e'"
    environment = {
        **programs(tmp_path / "bin", gcloud=gcloud, scalesearch=host),
        "HOME": str(tmp_path / "home"),
        "SCALESEARCH_STORAGE": storage,
    }
    (tmp_path / "home").mkdir()
    (tmp_path / "scalesearch.pgpass").write_text("*:*:scalesearch:scalesearch:s3cret\n", encoding="utf-8")
    command = [CLUSTER / "tpu_hosts.sh", "slice", "zone", "my study", "--data", "folder:/my images"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    words = "<worker><--study-name><my study><--data><folder:/my images>"
    assert done.stdout == f"{storage} 1,1,1 2,2,1\n{words}600\n"
    calls = (tmp_path / "calls").read_text(encoding="utf-8")
    assert calls.count("--zone=zone --worker=all") == 2
    assert "s3cret" not in calls


# A step of SLURM: `scancel` signals it, and a SIGTERM to srun itself ends it by force.
SLURM = {
    "srun": """shift; "$@" & step=$!
        echo $step >"step.7_$SLURM_ARRAY_TASK_ID"
        trap "kill -KILL $step" TERM
        wait $step""",
    "scancel": 'kill "-${1#--signal=}" "$(cat "step.$2")"',
    "scontrol": 'echo "$*" >>scontrol',
}


def submit(folder: Path, environment: dict[str, str], task: int, study: str) -> subprocess.Popen[bytes]:
    """A task of the job array on this machine."""
    variables = {**environment, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task)}
    return subprocess.Popen(["bash", CLUSTER / "slurm.sbatch", study], cwd=folder, env=variables)


def until(happens: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("to_the_batch_shell", "code", "requeued"), [("USR1", 130, "requeue 7_1\n"), ("TERM", 130, ""), ("", 0, "")]
)
def test_a_slurm_task_near_its_time_limit_requeues_itself(
    tmp_path: Path, to_the_batch_shell: str, code: int, requeued: str
) -> None:
    waits = "trap 'exit 130' TERM; touch started; for _ in $(seq 600); do sleep 0.1; done"
    worker = waits if to_the_batch_shell else 'touch started; echo "$*" >said'
    environment = programs(tmp_path / "bin", **SLURM, scalesearch=worker)
    (tmp_path / "scontrol").touch()
    with submit(tmp_path, environment, 1, "my_study") as task:
        until((tmp_path / "started").exists)
        if to_the_batch_shell:
            task.send_signal(signal.Signals[f"SIG{to_the_batch_shell}"])
        assert task.wait(SECONDS) == code
    assert (tmp_path / "scontrol").read_text() == requeued
    if not to_the_batch_shell:
        assert (tmp_path / "said").read_text() == "worker --study-name my_study\n"


@pytest.mark.slow
def test_a_preempted_slurm_task_gives_its_trial_back_at_once(tmp_path: Path) -> None:
    """One task gets SIGTERM as its batch shell, as `scancel --batch` sends it, another as its step."""
    study = tmp_path / "long.toml"
    study.write_text(TINY.replace("epochs = 2", "epochs = 100000"), encoding="utf-8")
    url = sqlite_url(tmp_path)
    name = init(load_study(study), storage=url).name
    opened = open_storage(url, read_only=True)

    def states() -> list[str]:
        studies = [join_study(opened, name) for name in study_names(opened)]  # of the candidates, and of the baseline
        return [trial.state.name for study in studies for trial in study.get_trials(deepcopy=False)]

    assert states() == ["WAITING"] * 4
    environment = programs(tmp_path / "bin", **SLURM, scalesearch=f'exec {sys.executable} -m scalesearch --quiet "$@"')
    environment |= {"PYTHONPATH": str(ROOT), "SCALESEARCH_STORAGE": url}
    with submit(tmp_path, environment, 1, name) as one, submit(tmp_path, environment, 2, name) as other:
        try:
            until(lambda: states().count("RUNNING") == 2)
            one.terminate()
            os.kill(int((tmp_path / "step.7_2").read_text()), signal.SIGTERM)
            assert (one.wait(SECONDS), other.wait(SECONDS)) == (130, 130)
        finally:
            for task, process in ((1, one), (2, other)):
                if process.poll() is None:
                    os.kill(int((tmp_path / f"step.7_{task}").read_text()), signal.SIGKILL)
    assert states() == ["WAITING"] * 4
    assert not (tmp_path / "scontrol").exists()
