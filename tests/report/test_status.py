"""What status shows of workers, throughput, time left and failures, once and again and again."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from scalesearch.cli.main import main
from scalesearch.errors import StorageError
from scalesearch.report.terminal import show_status
from scalesearch.report.watching import watch_status
from scalesearch.results.live import LiveRun, open_run, open_shared
from scalesearch.results.records import Failure
from scalesearch.runtime.presence import present
from scalesearch.runtime.workers import MAX_DEATHS
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import make_plan
from scalesearch.search.plan.parts import parts_of
from scalesearch.search.plan.reference import reference_study
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.lease import Lease
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.trials import BEAT, DEATHS, WORKER, done_of, worker_of
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, claim, planted_evaluate, planted_run, planted_study

ELSEWHERE = {"host": "node-17.cluster.example.org", "process": 7, "lock": "/tmp/a.lock", "device": "NVIDIA H100"}
FAILED = make_plan(planted_study()).trials[2].candidate.spec


def fail(candidate: Candidate) -> Failure | None:
    return Failure("diverged", "the loss is not finite") if candidate.spec == FAILED else None


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    planted_run(folder)
    return folder


class Going:
    """A run with three workers, one of which was killed on this machine, a failure, and a trial that was given up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        planted_run(folder, most=7, reference=planted_evaluate(PlantedSurface()), fail=fail)
        self.stored = studies.join_study(open_storage(sqlite_url(folder)), "planted")
        with present() as presence:
            self.ended = presence
        Path(presence["lock"]).touch()  # as a killed process leaves it
        self.claim(ELSEWHERE, [2, 0.25])
        self.claim(presence, [1, 0.5])
        self.claim({**ELSEWHERE, "host": "other", "process": 8})
        given_up = self.claim({})
        given_up.set_user_attr(DEATHS, [f"process {number} on other ended" for number in range(MAX_DEATHS + 1)])
        self.stored.tell(given_up, state=TrialState.FAIL)

    def claim(self, worker: dict[str, Any], beat: list[float] | None = None) -> optuna.Trial:
        trial = claim(self.stored)
        if worker:
            trial.set_user_attr(WORKER, worker)
        if beat:
            trial.set_user_attr(BEAT, beat)
        return trial


@pytest.fixture(scope="module")
def going(tmp_path_factory: pytest.TempPathFactory) -> Going:
    return Going(tmp_path_factory.mktemp("going"))


@pytest.fixture
def copied(going: Going, tmp_path: Path) -> Path:
    return Path(shutil.copytree(going.folder, tmp_path / "copy"))


def test_json_says_who_is_at_work_how_fast_and_what_failed(going: Going, capsys: pytest.CaptureFixture[str]) -> None:
    run = going
    assert main(["status", str(going.folder), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    keys = ("host", "process", "device", "has_ended", "study", "trial", "seeds", "trained")
    assert [[worker[key] for key in keys] for worker in status["workers"]] == [
        ["node-17.cluster.example.org", 7, "NVIDIA H100", False, "planted", 7, [0, 1], 0.25],
        [run.ended["host"], run.ended["process"], None, True, "planted", 8, [0, 1], 0.5],
        ["other", 8, "NVIDIA H100", False, "planted", 9, [0, 1], None],
    ]
    assert status["workers"][0]["since"] == run.stored.trials[7].datetime_start.isoformat(timespec="seconds")
    assert [(each["trial"], each["kind"], each["reasons"]) for each in status["failures"]] == [
        (2, "diverged", ["the loss is not finite"]),
        (10, "given up", [f"process {number} on other ended" for number in range(MAX_DEATHS + 1)]),
    ]
    done = [trial for trial in run.stored.trials if trial.state == TrialState.COMPLETE]
    (reference,) = studies.join_study(run.stored.storage, "planted-baseline").trials
    times = [trial.duration.total_seconds() for trial in (reference, *done) if trial.duration]
    mean = math.fsum(times) / 7
    speeds = [trial.user_attrs["record"]["images_per_second"] for trial in (reference, *done)]
    assert status["throughput"] == pytest.approx(
        {"seconds_per_trial": mean, "trials_per_hour": 3600 * 2 / mean, "images_per_second": math.fsum(speeds) / 7}
    )
    own = math.fsum(times[1:]) / 6
    assert status["seconds_left"] == pytest.approx((4 + 0.75 + 0.5 + 1) * own / 2)
    assert not status["finished"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_screen_fits_and_keeps_what_matters(going: Going, width: int) -> None:
    out = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO(), highlight=False)
    run = LiveRun(*open_run(going.folder))
    show_status(run.look(), run.activity(), out)
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = " ".join(text.split())
    for said in (
        "node-17",
        "25%",
        "has ended",
        "diverged",
        "given up",
        "With 2 workers: about",
        "lives shows"[-5:],
    ):
        assert said in words, said
    assert ("NVIDIA H100" in words) is (width > 40)


def test_a_watcher_measures_signs_by_its_own_clock(copied: Path) -> None:
    now = [100.0]
    study, storage = open_run(copied)
    stored = studies.join_study(open_storage(sqlite_url(copied)), "planted")
    run = LiveRun(study, storage, clock=lambda: now[0])

    def look() -> tuple[float, bool, bool, int]:
        run.look()
        first = run.activity().running[0]
        return first.silent_seconds, first.was_seen, first.is_unseen, run.activity().at_work

    assert look() == (0, False, True, 2)
    now[0] += 40
    assert look() == (40, False, True, 2)
    stored.storage.set_trial_user_attr(stored.id_of(7), BEAT, [3, 0.3])
    assert look() == (0, True, False, 2)
    now[0] += 59
    assert look() == (59, True, False, 1)  # the third one has given no sign for 99 s
    now[0] += 1
    assert look() == (60, True, False, 0)
    assert run.activity().seconds_left is None


def test_time_without_the_storage_is_no_silence(copied: Path) -> None:
    now = [0.0]
    run = LiveRun(*open_run(copied), clock=lambda: now[0])
    run.look()
    content = (copied / "study.db").read_bytes()
    (copied / "study.db").write_bytes(b"no database" * 1000)
    now[0] = 100
    with pytest.raises(StorageError):
        run.look()
    (copied / "study.db").write_bytes(content)
    now[0] = 200
    run.look()
    assert run.activity().running[0].silent_seconds == 0


def levels(folder: Path) -> list[StoredStudy]:
    """A stored study of two levels and a rung, as `init` makes it, without its trials."""
    study = planted_study(phi=[1.0, 1.5], rungs=[1], design={"degree": 1})
    storage = open_storage(sqlite_url(folder))
    parts = [studies.open_study(storage, part.study, "digest") for part in parts_of(study)]
    reference = studies.open_study(storage, reference_study(study), "digest")
    studies.set_parts(parts[0], [stored.study_name for stored in (reference, *parts)])
    return parts


def test_all_parts_of_a_shared_study_belong_and_need_no_folder(tmp_path: Path) -> None:
    parts = levels(tmp_path)
    run = LiveRun(*open_shared(sqlite_url(tmp_path), "planted"))
    assert run.look().study.phi == (1.0, 1.5)
    assert run.look().study.rungs == (1,)
    assert run.activity().not_begun == ("", "φ = 1.5", "1-epoch schedule")
    evaluate = planted_evaluate(PlantedSurface())
    for place, stored in enumerate(parts):
        assert not run.activity().is_finished
        study = studies.study_of(stored)
        plan = make_plan(study)
        studies.enqueue_missing(stored, plan.distinct)
        run.look()
        assert (run.activity().trials_left, len(run.activity().not_begun)) == (3, 2 - place)
        claim(stored).set_user_attr(WORKER, ELSEWHERE)
        run.look()
        activity = run.activity()
        (running,) = activity.running
        assert activity.labels[running.study] == ("", "φ = 1.5", "1-epoch schedule")[place]
        stored.storage.set_trial_state_values(stored.id_of(0), TrialState.WAITING)
        work(stored, study, plan, evaluate)
        outcome = run.look()
    assert run.activity().is_finished
    assert [record.phi for record in outcome.records] == [1.0] * 3 + [1.5] * 3
    assert len(outcome.rungs[1]) == 3


def test_a_race_is_finished_when_it_has_no_next_round(tmp_path: Path) -> None:
    study = planted_study(race=True, seeds=3, design={"degree": 2})
    storage = open_storage(sqlite_url(tmp_path))
    stored, plan = studies.open_study(storage, study, "digest"), make_plan(study)
    studies.enqueue_missing(stored, plan.distinct)
    run, evaluate = LiveRun(study, storage), planted_evaluate(PlantedSurface(), noise_sd=0.2)
    ended = []

    def on_trial(number: int, record: object) -> None:
        del number, record
        run.look()
        ended.append((run.activity().trials_left, run.activity().is_finished))

    work(stored, study, plan, evaluate, on_trial=on_trial)
    assert ended.count((0, False)) >= 1  # between two rounds
    assert [is_finished for _, is_finished in ended].index(True) == len(ended) - 1


def test_the_state_is_shown_again_until_all_is_finished(tmp_path: Path) -> None:
    planted_run(tmp_path, most=0)
    run = LiveRun(*open_run(tmp_path))
    stored = studies.join_study(open_storage(sqlite_url(tmp_path)), "planted")
    out = Console(file=io.StringIO(), width=140, force_terminal=False, highlight=False)

    def fails() -> object:
        raise StorageError("away") from OSError("connection refused")

    looks: list[Callable[[], object]] = [run.look, fails, fails, run.look]

    def look() -> Any:
        return (looks.pop(0) if looks else run.look)(), run.activity()

    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            config = studies.study_of(stored)
            work(stored, config, make_plan(config), planted_evaluate(PlantedSurface()))

    watch_status(look, 0.5, out, sleep)
    assert pauses == [0.5] * 3
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert text.count("The storage is away, and looked for again: connection refused\n") == 1
    shown = re.findall(r"planted: (\d+) trials complete", text)
    assert shown == ["0", "0", "15"]  # at first, before it was away, and when it is back


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_interrupt_ends_the_watch_quietly(going: Going, is_terminal: bool) -> None:
    run = LiveRun(*open_run(going.folder))
    out = Console(file=io.StringIO(), width=90, force_terminal=is_terminal, highlight=False)

    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    watch_status(lambda: (run.look(), run.activity()), 1, out, sleep)
    assert isinstance(out.file, io.StringIO)
    shown = out.file.getvalue()
    if is_terminal:  # what was drawn in place is gone, and the last state stays
        shown = shown.rpartition("\x1b[?1049l")[2]
    assert shown.count("planted: 6 trials complete, 1 failed, 3 running, 4 waiting\n") == 1


def test_a_finished_study_is_watched_once(finished_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = sqlite_url(finished_folder)
    assert main(["status", "--storage", url, "--study-name", "planted", "--watch"]) == 0
    assert capsys.readouterr().out.startswith("planted: 15 trials complete, 0 failed, 0 running, 0 waiting\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a run folder, or --study-name and --storage"),
        (["DIR", "--study-name", "planted"], "a run folder, or --study-name and --storage"),
        (["--watch", "DIR"], "must be 0.1 to 3600 seconds, behind DIR, but got 'DIR'"),
        (["DIR", "--watch", "0"], "must be 0.1 to 3600 seconds"),
        (["DIR", "--watch", "--json"], "not allowed with"),
    ],
)
def test_what_cannot_be_shown_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["status", *arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_worker_says_what_it_trains_on_and_starts_from_nothing(tmp_path: Path) -> None:
    config = planted_study(design={"degree": 1})
    stored = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    plan = make_plan(config)
    studies.enqueue_missing(stored, plan.distinct)
    storage = stored.storage
    claim(stored).set_user_attr(BEAT, [9, 0.9])
    with Lease(storage, stored.id_of(0), ELSEWHERE) as preempted:
        preempted.give_back()
    planted, seen = planted_evaluate(PlantedSurface()), []

    def evaluate(*arguments: Any) -> Any:
        running = next(trial for trial in stored.trials if trial.state == TrialState.RUNNING)
        seen.append((worker_of(running)["device"], done_of(running)))
        return planted(*arguments)

    work(stored, config, plan, evaluate, device="cpu, 2 cores")
    assert seen == [("cpu, 2 cores", None)] * 3
