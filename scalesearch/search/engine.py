"""The whole search: plan, train what is missing in worker processes, choose, and write the run folder.

The process that calls `search` plans, watches and analyses. It never imports jax: every training runs in a worker
process (`search.worker`), however many there are.
"""

from __future__ import annotations

import contextlib
import math
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalesearch.data.images import Pictures, pictures_in
from scalesearch.data.resolve import resolve
from scalesearch.data.usual import usual_study
from scalesearch.errors import InputError, StorageError, StudyMismatch
from scalesearch.runtime import interrupts
from scalesearch.runtime.folders import locked_folder
from scalesearch.runtime.text import plural
from scalesearch.search.events import OnEvent, Planned
from scalesearch.search.plan.design import Plan
from scalesearch.search.plan.parts import Part, plans_of
from scalesearch.search.plan.reference import reference_plan
from scalesearch.search.stored import StoredSearch, train_missing
from scalesearch.search.supervision import check_memory, start_workers, watch
from scalesearch.study.load import DEFAULT_STUDY, load_study, parse_study
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    from scalesearch.results.load import Run

STOPPING = "scalesearch: stopping after the current epoch or compilation"


def search(
    study: Study | str | Path | None = None,
    out: str | Path | None = None,
    *,
    storage: str | None = None,
    seconds: float | None = None,
    patience: float | None = None,
    events: OnEvent | None = None,
    **changes: Any,
) -> Run:
    """Carries out the search of `study` and returns what it found. Called again, it resumes.

    Args:
        study: a `Study`, the path or the name of a study file; if None, a usual study of `data`, or the default study.
        out: the run folder; `runs/NAME` of the study if None.
        storage: SQLAlchemy URL of a storage that several machines share; `study.db` in the run folder if None.
        seconds: start no trial that would end later than this many seconds from now.
        patience: how many seconds to wait for a storage that is away; 30 minutes if None.
        events: called with each event (`search.events`); None draws progress in a terminal or a notebook.
        changes: settings that replace those of a study file: `budget=2.0`, `seeds=3`, or, in a section,
            `training={"epochs": 5}`. `data="folder:pets"` is `data={"source": "folder:pets"}`.

    Returns:
        The run: tables, choice, rule, family and figures. Its folder holds them as files.

    Raises:
        InputError: the study, its data or the folder cannot be used.
        StudyMismatch: the folder or the storage holds a study of the same name with other settings; more seeds, a
            larger design, levels and rungs extend it.
        StorageError: the storage cannot be opened or used.
        WorkerFailed: the workers fail again and again.

    Example:
        >>> import scalesearch
        >>> run = scalesearch.search("mnist_sample", budget=2.0)  # doctest: +SKIP
        >>> run.rule.alpha, run.rule.beta, run.rule.gamma  # doctest: +SKIP
        (1.0, 1.3517..., 1.0462...)
    """
    study = _with_changes(study, changes)
    check_memory(study.runtime.workers)
    study, splits = resolve(study)
    deadline = time.monotonic() + (math.inf if seconds is None else seconds)
    folder = Path("runs") / study.name if out is None else Path(out)
    with drawing(events) as on_event:
        parts = plans_of(study)
        with locked_folder(folder), interrupts.deferred(STOPPING):
            _check_study_file(folder, study, storage)
            on_event(Planned(parts, splits))
            digest, pictures = splits.digest, pictures_in(splits.train, splits.validation)
            del splits
            from scalesearch.results.save import save_study
            from scalesearch.search.queue.patience import PATIENCE_SECONDS, waiting
            from scalesearch.search.queue.storage import sqlite_url

            url = storage or sqlite_url(folder)
            searches, reference, notes = _stored(study, digest, parts, url)  # no wait for one that was never there
            for note in notes:
                on_event(note)
            save_study(folder, study)
            with waiting(PATIENCE_SECONDS if patience is None else patience):
                with _copied(folder, [*searches, reference] if storage else []):
                    _train(searches, reference, url, deadline, on_event, pictures, patience)
                from scalesearch.results.load import load  # pandas and scipy, which training does not need
                from scalesearch.results.save import finish

                run = load(folder)
                finish(run, storage)
    return run


def init(study: Study | str | Path | None = None, *, storage: str, **changes: Any) -> Study:
    """Makes the stored studies of a search and queues their trials, for workers to join (`join`); trains nothing.

    Args:
        study: as in `search`.
        storage: SQLAlchemy URL of a storage that all workers share.
        changes: as in `search`.

    Returns:
        The study. `search` with the same arguments and a run folder gives the result, once all is trained.

    Raises:
        InputError: the study or its data cannot be used.
        StudyMismatch: the storage holds a study of the same name with other settings.
        StorageError: the storage cannot be opened or used.
    """
    study, splits = resolve(_with_changes(study, changes))
    parts = plans_of(study)
    searches, reference, notes = _stored(study, splits.digest, parts, storage)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    for each in (reference, *searches):
        each.fill_queue()
    return study


def join(
    storage: str,
    study_name: str,
    *,
    source: str | None = None,
    cores: Sequence[int] = (),
    seconds: float | None = None,
    patience: float | None = None,
    events: OnEvent | None = None,
) -> None:
    """Trains trials of a study that `search` or `init` made, on any machine, until none is left.

    Args:
        storage: SQLAlchemy URL of the shared storage.
        study_name: the study's name there.
        source: where this machine holds the data, if not where the study says.
        cores: processor cores to keep to; empty for all.
        seconds: start no trial that would end later than this many seconds from now.
        patience: how many seconds to wait for a storage that is away; 30 minutes if None.
        events: called with each event; None draws progress.

    Raises:
        StorageError: the storage cannot be opened, or holds no such study.
        StudyMismatch: the data or the user's own code on this machine are not those of the study.
    """
    from scalesearch.search.queue import optuna_study as queue
    from scalesearch.search.queue.patience import PATIENCE_SECONDS, waiting
    from scalesearch.search.queue.storage import open_storage

    with interrupts.deferred(STOPPING), waiting(PATIENCE_SECONDS if patience is None else patience):
        first, *others = queue.parts_in(queue.join_study(open_storage(storage, create=False), study_name)) or (None,)
    names = others or [study_name]
    instruction = {
        "storage": storage,
        "study_names": names,
        "reference": first,
        "source": source,
        "cores": list(cores),
        "seconds": seconds,
        "patience": patience,
    }
    with drawing(events) as on_event, interrupts.deferred(STOPPING), start_workers([instruction]) as running:
        for _ in watch(running, on_event, on_trial=_report_trial(on_event)):
            pass
        with contextlib.suppress(StorageError):
            opened = open_storage(storage, create=False)
            states = [queue.count_states(queue.join_study(opened, each)) for each in names]
            left = sum(each["waiting"] + each["running"] for each in states)
            on_event(f"{study_name}: {plural(left, 'trial')} left" if left else f"{study_name}: no trial is left")


def _report_trial(on_event: OnEvent) -> Callable[[Mapping[str, Any]], None]:
    from scalesearch.report.views.table import network, trial_result
    from scalesearch.results.records import record_from_json

    def report(message: Mapping[str, Any]) -> None:
        record = record_from_json(message["record"])
        on_event(f"trial {message['trial']}: {network(record.candidate.spec)}: {trial_result(record)}")

    return report


def _with_changes(study: Study | str | Path | None, changes: Mapping[str, Any]) -> Study:
    """The study with `changes` applied; sections are changed key by key, and `data` may be a source alone."""
    changes = {
        key: {"source": value} if (key, type(value)) == ("data", str) else value for key, value in changes.items()
    }
    if isinstance(study, Study):
        document = study.model_dump(mode="json")
        for key, value in changes.items():
            document[key] = {**document[key], **value} if isinstance(value, Mapping) else value
        return parse_study(document, f"study {study.name}") if changes else study
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        flat |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, Mapping) else {key: value}
    if study is None and "data.source" in flat:
        return usual_study(flat["data.source"], flat)
    return load_study(DEFAULT_STUDY if study is None else study, flat)


@contextlib.contextmanager
def drawing(events: OnEvent | None) -> Iterator[OnEvent]:
    """The receiver of events: `events`, or progress that is drawn until the context ends."""
    if events is not None:
        yield events
        return
    from scalesearch.report.progress import Progress

    with Progress() as progress:
        yield progress


def _check_study_file(folder: Path, study: Study, storage: str | None) -> None:
    """Raises an error if `folder` holds a study.toml that would be overwritten: another study's, or the user's own."""
    from scalesearch.results.save import study_text

    path = folder / "study.toml"
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if storage or (folder / "study.db").exists():
        with contextlib.suppress(ValueError):  # it is damaged, and is written anew
            name = tomllib.loads(text).get("name", study.name)
            if name != study.name:
                raise StudyMismatch(f"--out {folder}: holds the study {name!r}; choose another one for {study.name!r}")
        return
    if text != study_text(study):
        raise InputError(
            f"--out {folder}: its study.toml was not written by a run and would be overwritten; choose another folder"
        )


def _stored(
    study: Study, data_digest: str, parts: Sequence[tuple[Part, Plan]], url: str
) -> tuple[list[StoredSearch], StoredSearch, list[str]]:
    """The searches of a study, stored at `url`, their reference, and what is to be said of them."""
    from scalesearch.search.queue import optuna_study as queue
    from scalesearch.search.queue.naming import check_earlier, named_parts
    from scalesearch.search.queue.planned import hold_earlier_shares, plan_for
    from scalesearch.search.queue.storage import open_storage

    opened = open_storage(url)
    named = named_parts(opened, study)
    check_earlier(opened, named, study, data_digest)
    searches = []
    for part, (_, plan) in zip(named.parts, parts, strict=True):
        stored = queue.open_study(opened, part.study, data_digest)
        label = f"{part.label}: " if part.label else ""
        searches.append(StoredSearch(part.study, plan_for(stored, part.study, plan), stored, label))
    notes = [named.note] if named.note else []
    if hold_earlier_shares([each.optuna_study for each in searches]):
        notes.append(
            "an earlier version of scalesearch planned this search and read shares off α, β and γ, not off real cost: "
            "what it planned is trained to the end, and reported in these shares"
        )
    own = named.reference
    reference = StoredSearch(own, reference_plan(own), queue.open_study(opened, own, data_digest))
    # Workers join by the first name or, if that is another one, by the study's.
    for name in {named.first, study.name}:
        queue.set_parts(queue.join_study(opened, name), [each.study.name for each in (reference, *searches)])
    return searches, reference, notes


@contextlib.contextmanager
def _copied(folder: Path, searches: Sequence[StoredSearch]) -> Iterator[None]:
    """Copies stored studies into the run folder when the context ends, in whatever way."""
    from scalesearch.search.queue.patience import waiting
    from scalesearch.search.queue.storage import copy_to_folder

    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception), waiting(0.0):  # the storage may be what failed
            for each in searches:
                copy_to_folder(each.optuna_study, folder)
        raise
    for each in searches:
        copy_to_folder(each.optuna_study, folder)


def _train(
    searches: Sequence[StoredSearch],
    reference: StoredSearch,
    url: str,
    deadline: float,
    on_event: OnEvent,
    pictures: Sequence[Pictures],
    patience: float | None,
) -> None:
    """Trains the trials that the searches lack. One reference serves all levels and rungs: it is the same network."""
    for place, search in enumerate(searches):
        later = sum(following.predicted_seconds or 0.0 for following in searches[place + 1 :])
        train_missing(search, url, deadline, on_event, later, pictures, None if place else reference, patience=patience)
