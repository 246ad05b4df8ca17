"""The commands of a search: run, worker, status, report."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scalesearch.cli.scaling import print_json, study_of
from scalesearch.errors import InputError, StudyMismatch
from scalesearch.report import terminal as display
from scalesearch.report.progress import SearchProgress
from scalesearch.results.save import finish, save_study, study_text
from scalesearch.runtime import allocator, interrupts
from scalesearch.runtime.cores import use_cores
from scalesearch.runtime.workers import STOPPING, helpers, owned
from scalesearch.search.plan.design import Plan, make_plan, planned_size
from scalesearch.search.plan.parts import Part, parts_of
from scalesearch.search.plan.timing import predicted_seconds
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.looks import Watcher
from scalesearch.search.queue.storage import copy_to_folder, open_storage, sqlite_url
from scalesearch.search.queue.work import work
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    from scalesearch.data.splits import Splits
    from scalesearch.results.load import Run
    from scalesearch.results.records import TrialRecord
    from scalesearch.search.evaluation import TrainingEvaluation
    from scalesearch.training.loop import EpochReport


def run(arguments: argparse.Namespace) -> int:
    """The whole job: plan, train what is missing, fit, choose, write; run again to resume."""
    deadline = time.monotonic() + (arguments.time or math.inf)
    config = study_of(arguments)
    parts = [(part, make_plan(part.study)) for part in parts_of(config)]
    folder = arguments.out or Path("runs") / config.name
    with owned(folder), interrupts.deferred(STOPPING):
        _check_is_own(folder, config, arguments.storage)
        if not arguments.json:
            display.show_plan_head(parts)
        missing = _train(config, parts, folder, arguments.storage, deadline)
        if arguments.owns_process and not missing and "jax" in sys.modules:
            interrupts.check()
            _become_report(folder, arguments.storage, as_json=arguments.json)
        from scalesearch.results.load import load  # with pandas and scipy, of which training has no need

        done = load(folder)
        finish(done, arguments.storage)
    code = _show(done, arguments.json)
    if missing and arguments.time:
        sys.stderr.write(f"scalesearch: --time is spent; {missing} trials are left: run again to go on\n")
    elif missing:
        sys.stderr.write(
            f"scalesearch: {missing} trials have no result, since their workers died again and again; "
            "run the same command again to try them again\n"
        )
        return 5
    return code


def _become_report(folder: Path, server: str | None, *, as_json: bool) -> NoReturn:
    """Goes on as `scalesearch report`, in the same process but with fresh memory.

    Tables and figures need as much again as jax and what it leaves, which cannot be unloaded.
    """
    options = [*(["--storage", server] if server else []), *(["--json"] if as_json else [])]
    if sys.stdout is not None:
        sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "scalesearch", "report", *options, "--", str(folder)])


def _train(config: Study, parts: Sequence[tuple[Part, Plan]], folder: Path, server: str | None, deadline: float) -> int:
    """Train what the searches still lack; how many trials have no result even so."""
    with _searches(config, parts, folder, server) as (searches, splits):
        for place, search in enumerate(searches):
            later = sum(_predicted(later.config, later.plan) or 0.0 for later in searches[place + 1 :])
            train_missing(search, splits, server or sqlite_url(folder), deadline, later)
        return sum(map(_missing, searches))


def _check_is_own(folder: Path, config: Study, server: str | None) -> None:
    """Raises `InputError` where `folder` has a study.toml that no run wrote: it would be lost."""
    path = folder / "study.toml"
    if server or (folder / "study.db").exists() or not path.exists():
        return
    if path.read_text(encoding="utf-8", errors="replace") != study_text(config):
        raise InputError(f"--out {folder}: its study.toml is not a run's and would be lost; choose another folder")


@dataclass(frozen=True)
class Search:
    """One search to carry out; `label` tells it from others of the same run, `measured` names its metric."""

    config: Study
    plan: Plan
    study: Any
    label: str = ""
    measured: str = ""


@contextlib.contextmanager
def _searches(
    config: Study, parts: Sequence[tuple[Part, Plan]], folder: Path, server: str | None
) -> Iterator[tuple[list[Search], Splits]]:
    """The searches and their data; what a server holds in the end, or at an interrupt, is copied to the folder."""
    from scalesearch.data.splits import check_fits, load_splits

    splits = load_splits(config.data)
    for part, made in parts:
        check_fits(made.baseline.spec, splits, part.study.training.batch_size)
    storage = open_storage(server or sqlite_url(folder))
    searches: list[Search] = []
    for part, made in parts:
        study = studies.open_study(storage, part.study, splits.digest)
        searches.append(Search(part.study, made, study, f"{part.label}: " if part.label else ""))
    save_study(folder, config)

    def copy() -> None:
        for search in searches:
            copy_to_folder(search.study, folder)

    try:
        yield searches, splits
    except BaseException:
        if server:
            with contextlib.suppress(Exception):  # the server may be what failed
                copy()
        raise
    if server:
        copy()


def _missing(search: Search) -> int:
    """How many trials have no result: of those planned, or queued."""
    states = studies.count_states(search.study)
    left = states["waiting"] + states["running"]
    return max(planned_size(search.config, search.plan) - (sum(states.values()) - left), left)


def _predicted(config: Study, made: Plan) -> float | None:
    return predicted_seconds(config, [trial.candidate for trial in made.distinct])


def _show(done: Run, as_json: bool) -> int:
    if as_json:
        print_json(done.to_json())
    else:
        display.show_result(done)
    return 5 if done.failed else 0


def train_missing(
    search: Search, splits: Splits, url: str, deadline: float = math.inf, later_seconds: float = 0.0
) -> None:
    """Train what the search still lacks; `later_seconds` more are to come after it."""
    config, study, planned = search.config, search.study, search.plan.distinct
    studies.check_plan(study, planned)
    studies.enqueue_missing(study, planned)
    if not (_missing(search) or (config.race and _race_goes_on(search))):
        sys.stderr.write(f"{search.label}all trials are there already: nothing to train\n")
        return
    from scalesearch.models.ops.cpu.library import build_ahead

    allocator.tune()
    if config.runtime.convolutions in ("auto", "kernels"):
        build_ahead(sys.stderr.write)
    _train_here(search, splits, url, deadline, later_seconds)
    from scalesearch.training.memory import release

    release()  # tables and figures need as much again


def _train_here(search: Search, splits: Splits, url: str, deadline: float, later_seconds: float) -> None:
    """Train what the search lacks in this process and its helpers, with progress."""
    config, made, study = search.config, search.plan, search.study
    watcher = Watcher(study)
    records, states = watcher.look()
    progress = SearchProgress(
        config,
        _total(search, states),
        _predicted(config, made),
        list(records),
        search.label,
        later_seconds,
        search.measured,
    )

    def look() -> None:
        records, states = watcher.look()
        progress.seen(list(records), _total(search, states))

    def on_wait(running: int) -> None:
        look()
        progress.waiting(running)

    interrupts.check()
    with helpers(url, config.name, config.runtime.workers, deadline), progress:
        evaluate = _evaluation(config, splits, lambda report: progress.epoch(report.share))
        work(
            study,
            config,
            made,
            evaluate,
            deadline=deadline,
            expect=evaluate.expect,
            on_trial=lambda number, record: look(),
            on_wait=on_wait,
        )


def _evaluation(config: Study, splits: Splits, on_epoch: Callable[[EpochReport], None]) -> TrainingEvaluation:
    """What trains, in a process that has its cores. Imports jax: two seconds, in which its helpers do the same."""
    from scalesearch.runtime.cache import enable_compilation_cache
    from scalesearch.search.evaluation import TrainingEvaluation

    enable_compilation_cache()
    return TrainingEvaluation(config, splits, on_epoch)


def _race_goes_on(search: Search) -> bool:
    from scalesearch.search.plan.racing import next_round

    return bool(next_round(search.config, search.plan, studies.records(search.study)))


def _total(search: Search, states: Mapping[str, int]) -> int:
    """How many trials there are to be, as far as is known."""
    return max(planned_size(search.config, search.plan), sum(states.values()))


def worker(arguments: argparse.Namespace) -> int:
    """Join a study: take trials from its queue until it is done."""
    with interrupts.deferred(STOPPING):
        return _worker(arguments)


def _worker(arguments: argparse.Namespace) -> int:
    deadline = time.monotonic() + (arguments.time or math.inf)
    if arguments.cores:
        use_cores(arguments.cores)
    allocator.tune()
    study = studies.join_study(open_storage(arguments.storage), arguments.study_name)
    config = studies.study_of(study)
    if arguments.data:
        data = config.data.model_copy(update={"source": arguments.data})
        config = config.model_copy(update={"data": data})
    from scalesearch.data.splits import check_fits, load_splits

    splits = load_splits(config.data)
    if splits.digest != studies.data_digest(study):
        raise StudyMismatch(f"the data of {config.data.source} are not those that the study was made with")
    made = make_plan(config)
    check_fits(made.baseline.spec, splits, config.training.batch_size)

    def on_trial(number: int, record: TrialRecord) -> None:
        told = f"{record.mean(config.metric):.4f}" if record.failure is None else display.failure(record.failure)
        sys.stderr.write(f"trial {number}: {display.network(record.candidate.spec)}: {told}\n")

    evaluate = _evaluation(config, splits, lambda report: None)
    work(study, config, made, evaluate, deadline=deadline, expect=evaluate.expect, on_trial=on_trial)
    return 0


def status(arguments: argparse.Namespace) -> int:
    """How far a run is, and who leads."""
    from scalesearch.results.load import load

    found = load(arguments.folder, arguments.storage)
    if arguments.json:
        print_json(found.status())
    else:
        display.show_status(found)
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write the tables, the rule and the report of what there is so far."""
    from scalesearch.results.load import load

    found = load(arguments.folder, arguments.storage)
    try:
        finish(found, arguments.storage)
    except OSError as error:
        raise InputError(f"{arguments.folder}: cannot be written ({error.strerror})") from None
    return _show(found, arguments.json)
