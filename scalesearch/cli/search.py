"""The commands of a search: run, worker, status, report."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scalesearch.cli import display
from scalesearch.cli.cores import usable_cores, use_cores
from scalesearch.cli.progress import SearchProgress
from scalesearch.cli.scaling import print_json, study_of
from scalesearch.config import InputError, StudyConfig
from scalesearch.results import Run, finish, load, save_study
from scalesearch.search import study as studies
from scalesearch.search.design import Plan, make_plan
from scalesearch.search.timing import predicted_seconds
from scalesearch.search.worker import Finished, work


def run(arguments: argparse.Namespace) -> int:
    """The whole job: plan, train what is missing, fit, choose, write; run again to resume."""
    config = study_of(arguments)
    if arguments.study_name:
        config = config.model_copy(update={"name": arguments.study_name})
    made = make_plan(config)
    folder = arguments.out or Path("runs") / config.name
    with _owned(folder):
        if not arguments.json:
            display.show_plan_head(config, made)
        url = arguments.storage or studies.sqlite_url(folder)
        try:
            _search(config, made, folder, url, arguments.workers)
        finally:
            if arguments.storage:
                studies.copy_to_folder(studies.join_study(studies.open_storage(url), config.name), folder)
        done = load(folder)
        finish(done)
    return _show(done, arguments.json)


def _show(done: Run, as_json: bool) -> int:
    if as_json:
        print_json(done.to_json())
    else:
        display.show_result(done)
    return 5 if done.failed else 0


def _search(config: StudyConfig, made: Plan, folder: Path, url: str, workers: int) -> None:
    """Train what the study still lacks."""
    from scalesearch.training.data import load_splits

    splits = load_splits(config.data)
    study = studies.open_study(studies.open_storage(url), config, splits.digest)
    save_study(folder, config)
    planned = made.distinct
    studies.enqueue_missing(study, planned)
    states, trials = studies.count_states(study), len(planned) or config.design.size
    if states["complete"] + states["failed"] >= trials and not states["waiting"] + states["running"]:
        sys.stderr.write("all trials are there already: nothing to train\n")
        return
    from scalesearch.search.objective import check_fits, training_evaluation
    from scalesearch.training.cache import enable_compilation_cache

    check_fits(made.baseline.spec, splits, config.data.source)
    enable_compilation_cache()
    seconds = predicted_seconds(config, [trial.candidate for trial in planned])
    progress = SearchProgress(config, trials, seconds, studies.records(study))

    def on_finished(finished: Finished) -> None:
        del finished
        progress.finished(studies.records(study))

    evaluate = training_evaluation(config, splits, lambda report: progress.epoch(len(report.seeds)))
    with _helpers(url, config.name, workers), progress:
        work(study, config, made, evaluate, on_finished, progress.waiting)


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """The run folder, made and writable, with no other `run` in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        lock = (folder / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written ({error.strerror}); choose another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"--out {folder}: another `scalesearch run` is at work there") from None
        yield


@contextlib.contextmanager
def _helpers(url: str, name: str, workers: int) -> Iterator[None]:
    """`workers` − 1 further processes that join the study, each with its part of the cores, this one included."""
    if workers == 1:
        yield
        return
    cores = usable_cores()
    parts = [cores[place::workers] or [cores[place % len(cores)]] for place in range(workers)]
    command = [sys.executable, "-m", "scalesearch", "worker", "--storage", url, "--study-name", name, "--cores"]
    helpers = [
        subprocess.Popen([*command, ",".join(map(str, part))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for part in parts[1:]
    ]
    use_cores(parts[0])
    try:
        yield
        codes = [helper.wait() for helper in helpers]
    finally:
        for helper in helpers:
            helper.terminate()
            helper.wait()
    if any(codes):
        sys.stderr.write(f"scalesearch: workers ended with exit codes {codes}; the trials are complete all the same\n")


def worker(arguments: argparse.Namespace) -> int:
    """Join a study: take trials from its queue until it is done."""
    if arguments.cores:
        use_cores(arguments.cores)
    study = studies.join_study(studies.open_storage(arguments.storage), arguments.study_name)
    config = studies.config_of(study)
    if arguments.data:
        data = config.data.model_copy(update={"source": arguments.data})
        config = config.model_copy(update={"data": data})
    from scalesearch.search.objective import check_fits, training_evaluation
    from scalesearch.training.cache import enable_compilation_cache
    from scalesearch.training.data import load_splits

    splits = load_splits(config.data)
    if splits.digest != studies.data_digest(study):
        raise studies.StudyMismatch(f"the data of {config.data.source} are not those that the study was made with")
    made = make_plan(config)
    check_fits(made.baseline.spec, splits, config.data.source)
    enable_compilation_cache()

    def on_finished(finished: Finished) -> None:
        record = finished.record
        told = f"failed ({record.failure.kind})" if record.failure else f"{record.mean(config.metric):.4f}"
        sys.stderr.write(f"trial {finished.number}: {display.network(record.candidate.spec)}: {told}\n")

    work(
        study, config, made, training_evaluation(config, splits, lambda report: None), on_finished, lambda running: None
    )
    return 0


def status(arguments: argparse.Namespace) -> int:
    """How far a run is, and who leads."""
    found = load(arguments.folder, arguments.storage)
    if arguments.json:
        print_json(found.status())
    else:
        display.show_status(found)
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write the tables, the rule and the report of what there is so far."""
    found = load(arguments.folder, arguments.storage)
    finish(found)
    return _show(found, as_json=False)
