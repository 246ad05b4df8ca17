"""The command dashboard: a real server asked over HTTP, its end, and the one line for each bad input."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from scalesearch.cli.main import main
from scalesearch.results.save import finish
from scalesearch.search.queue import dashboard
from tests.cli.tiny import HEEDS_INTERRUPTS, ROOT, complaint, environment
from tests.fixtures import without_the_dashboard
from tests.planted import planted_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("planted")
    finish(planted_run(made))
    return made


NO_HEADERS: Mapping[str, str] = {}


class Served:
    """A dashboard in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HEEDS_INTERRUPTS, "dashboard", str(folder), "--port", "0"],
            cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.announcement = self.process.stdout.readline()

    def ask(
        self, path: str, method: str = "GET", document: object = None, headers: Mapping[str, str] = NO_HEADERS
    ) -> tuple[int, Any]:
        host = re.search(r"http://127\.0\.0\.1:\d+", self.announcement)
        assert host is not None
        body = None if document is None else json.dumps(document).encode()
        port = host[0].rpartition(":")[2]
        sent = {"Content-Type": "application/json", "Accept-Encoding": ""}
        sent |= {name: value.format(port=port) for name, value in headers.items()}
        request = urllib.request.Request(host[0] + path, body, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        return status, json.loads(text) if text.startswith((b"{", b"[")) else text.decode()

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out + err


@pytest.fixture
def served(folder: Path, tmp_path: Path) -> Iterator[Served]:
    shutil.copytree(folder, tmp_path / "run")
    made = Served(tmp_path / "run")
    yield made
    made.process.kill()
    made.process.communicate()


def test_the_study_is_shown_with_note_and_figures_and_left_as_it_is(
    served: Served, folder: Path, tmp_path: Path
) -> None:
    before = (tmp_path / "run/study.db").read_bytes()
    page = re.fullmatch(r"planted in Optuna's dashboard: (http://\S+) \(Ctrl-C ends it\)\n", served.announcement)
    assert page is not None
    (study,) = served.ask("/api/studies")[1]["study_summaries"]
    assert page[1].endswith(f"/dashboard/studies/{study['study_id']}")
    assert "Optuna Dashboard" in served.ask(f"/dashboard/studies/{study['study_id']}")[1]
    status, detail = served.ask(f"/api/studies/{study['study_id']}")
    assert (status, detail["name"], len(detail["trials"])) == (200, "planted", 15)
    assert detail["note"]["body"].startswith("# planted\n\n**Spend ")
    assert sorted(figure["id"] for figure in detail["plotly_graph_objects"]) == ["leaderboard", "triangle"]
    for method, path in (
        ("DELETE", f"/api/studies/{study['study_id']}"),
        ("POST", "/api/studies"),
        ("POST", f"/api/studies/{study['study_id']}/rename"),
        ("PUT", f"/api/studies/{study['study_id']}/preference"),
        ("POST", f"/api/trials/{detail['trials'][0]['trial_id']}/user-attrs"),
    ):
        asked = {"study_name": "x", "directions": ["minimize"], "user_attrs": {"x": 1}}
        status, answer = served.ask(path, method, asked)
        assert (status, list(answer)) == (403, ["reason"])
    assert (tmp_path / "run/study.db").read_bytes() == before
    assert served.end(signal.SIGINT) == (130, "scalesearch: interrupted\n")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(path.name for path in folder.iterdir())


def test_a_reader_may_write_a_note(served: Served) -> None:
    (study,) = served.ask("/api/studies")[1]["study_summaries"]
    path = f"/api/studies/{study['study_id']}"
    version = served.ask(path)[1]["note"]["version"]
    assert served.ask(f"{path}/note", "PUT", {"version": version + 1, "body": "my own"})[0] == 204
    assert served.ask(path)[1]["note"]["body"] == "my own"
    assert served.end(signal.SIGTERM) == (130, "scalesearch: interrupted\n")


def test_it_answers_its_own_pages_only(served: Served) -> None:
    (study,) = served.ask("/api/studies")[1]["study_summaries"]
    path = f"/api/studies/{study['study_id']}"
    version = served.ask(path)[1]["note"]["version"]
    page = "http://127.0.0.1:{port}/dashboard"
    for allowed in (
        {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"},
        {"Host": "LOCALHOST:{port}"},
        {"Host": "[::1]:{port}", "Referer": "http://[::1]:{port}/dashboard"},
        {"Origin": "http://127.0.0.1:{port}", "Referer": page},
    ):
        assert served.ask(path, headers=allowed)[0] == 200, allowed
    for refused in (
        {"Host": "elsewhere.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "localhost.elsewhere.example:{port}"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Referer": "http://elsewhere.example/http://127.0.0.1:{port}"},
        {"Referer": "http://127.0.0.1:{port}@elsewhere.example/"},
        {"Origin": "http://[::1"},
    ):
        note = {"version": version + 1, "body": "not mine"}
        assert served.ask(path, headers=refused)[0] == 403, refused
        assert served.ask(f"{path}/note", "PUT", note, refused)[0] == 403, refused
    assert served.ask(path)[1]["note"]["version"] == version


def test_it_listens_on_loopback_only(folder: Path) -> None:
    from scalesearch.results.live import open_run

    with dashboard.serve(open_run(folder)[1], 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_bad_input(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = complaint(capsys, "dashboard", folder, "--port", port)
    assert f"--port {port}: cannot be used (Address already in use); choose another" in line
    assert f"{tmp_path}: no run there" in complaint(capsys, "dashboard", tmp_path)
    assert "there is no storage sqlite:" in complaint(
        capsys, "dashboard", folder, "--storage", f"sqlite:///{tmp_path}/other.db", code=4
    )
    for port_text in ("70000", "-1", "http"):
        with pytest.raises(SystemExit) as leaving:
            main(["dashboard", str(folder), f"--port={port_text}"])
        assert leaving.value.code == 2
        assert "must be a whole number from 0 to 65535" in capsys.readouterr().err


def test_where_it_is_not_installed_one_line_says_how(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_the_dashboard(monkeypatch)
    line = complaint(capsys, "dashboard", tmp_path / "nowhere")
    assert line == 'scalesearch: Optuna\'s dashboard is not installed: pip install "scalesearch[dashboard]"\n'
