"""The rule against its rivals on the test split, at a φ that it was not fitted on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.validation import Validation, save_validation, validation_table, verdict
from scalesearch.data.checks import check_signal
from scalesearch.data.images import pictures_in
from scalesearch.data.splits import check_fits, load_splits
from scalesearch.errors import InputError, StudyMismatch
from scalesearch.results.load import Run, load
from scalesearch.results.save import finish
from scalesearch.runtime import interrupts
from scalesearch.runtime.folders import locked_folder
from scalesearch.runtime.text import plural
from scalesearch.search.engine import STOPPING, drawing
from scalesearch.search.events import OnEvent
from scalesearch.search.plan.rivals import RULE, rivals, validation_study
from scalesearch.search.queue import optuna_study as queue
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.stored import StoredSearch, train_missing
from scalesearch.study.load import located_source


def validate(
    run: Run | str | Path,
    phi: float | Sequence[float] = 2.0,
    *,
    seeds: int | None = None,
    test: str | None = None,
    storage: str | None = None,
    events: OnEvent | None = None,
) -> Run:
    """Trains the rule's network and its rivals at equal cost, and compares them on the test split.

    The rivals spend the same budget B^φ on depth, width or resolution alone, in equal shares, or as published rules
    do. Called again, it resumes.

    Args:
        run: the run, or its folder; its search must be finished.
        phi: one φ or several, above 0.
        seeds: trainings of each network, the study's number if None; use five or more.
        test: a data source with test images, in place of the study's.
        storage: SQLAlchemy URL of the storage that holds the study, if it is not the run folder's.
        events: called with each event (`search.events`); None draws progress.

    Returns:
        The run with its `validations`, one for each φ.

    Raises:
        InputError: the search is not finished, φ or seeds are out of range, or there is no test split.
        StudyMismatch: the data are not those of the search.

    Example:
        >>> import scalesearch
        >>> run = scalesearch.validate("runs/mnist_sample", phi=2, seeds=5)  # doctest: +SKIP
        >>> print(run.validations[0].verdict)  # doctest: +SKIP
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    run = load(folder, storage)
    if run.states["waiting"] + run.states["running"] or not run.has_result:
        raise InputError(f"{folder}: the search has no final rule yet; finish the run first")
    if not run.has_rule:
        raise InputError(f"{folder}: {run.standing.answer}")
    phis = tuple(phi) if isinstance(phi, Sequence) else (phi,)
    if min(phis) <= 0:
        raise InputError(f"`phi` must be above 0, where there is a budget to split, but got {min(phis):g}")
    with drawing(events) as on_event, locked_folder(folder), interrupts.deferred(STOPPING):
        for each in phis:
            _validate(run, each, seeds or run.study.seeds, test, storage, on_event)
        validated = load(folder, storage)
        finish(validated, storage)
    return validated


def _validate(run: Run, phi: float, seeds: int, test: str | None, storage: str | None, on_event: OnEvent) -> None:
    # What to train.
    for earlier in run.validations:
        if earlier.phi == phi and earlier.seeds > seeds:
            raise InputError(
                f"φ = {phi:g} is validated with {earlier.seeds} seeds already: --seeds must be at least that"
            )
    stored = run.study.model_copy(update={"name": run.stored_as})
    study = validation_study(stored, run.choice.shares, phi, seeds)
    plan, names = rivals(study, run.choice.shares)

    # The data: the same as the search's, with a test split.
    if test is not None:
        study = study.model_copy(
            update={"data": study.data.model_copy(update={"test_source": located_source(test, (Path.cwd(),))})}
        )
    splits = load_splits(study.data)
    check_fits(plan.baseline.spec, splits, study.training.batch_size)
    if test is not None:
        for note in check_signal(splits):
            warnings.warn(note, stacklevel=2)
    if not len(splits.test):
        raise InputError(f"{study.data.source}: there is no test split; name one with --test (`test`)")
    if splits.digest != run.fingerprint["data.digest"]:
        raise StudyMismatch(f"the data of {study.data.source} are not those that the rule was found with")

    # Training, judged by the test split. Each test set has a stored study of its own.
    if splits.test_digest != splits.digest:
        study = study.model_copy(update={"name": f"{study.name}-{splits.test_digest[:8]}"})
    on_event(f"φ = {phi:g}: {len(names)} networks of {study.budget:g} × the baseline, {plural(study.seeds, 'seed')}")
    url = storage or sqlite_url(run.folder)
    optuna_study = queue.open_study(open_storage(url), study, splits.test_digest, evaluates="test")
    search = StoredSearch(study, plan, optuna_study, metric=metric_of(study.metric).on_test)
    train_missing(search, url, math.inf, on_event, pictures=pictures_in(splits.train, splits.test))

    # The comparison.
    records, _, day = queue.snapshot(optuna_study)
    try:
        table = validation_table(records, names, RULE, study.metric)
    except ValueError as error:
        raise InputError(f"φ = {phi:g}: {error}") from None
    read = day or date.today().isoformat()
    save_validation(run.folder, Validation(phi, study.budget, read, splits.test_digest, verdict(table), table))
