"""The command validate: the rule against its rivals on the test split, at a φ that it was not fitted on."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from datetime import date

from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.validation import Validation, save_validation, validation_table, verdict
from scalesearch.cli.scaling import print_json
from scalesearch.cli.search import Search, train_missing
from scalesearch.errors import InputError, StudyMismatch
from scalesearch.report import terminal as display
from scalesearch.results.load import Run, load
from scalesearch.results.save import finish
from scalesearch.runtime import interrupts
from scalesearch.runtime.workers import STOPPING, owned
from scalesearch.scaling.family import parse_phis
from scalesearch.search.plan.rivals import RULE, rivals, validation_study
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url


def validate(arguments: argparse.Namespace) -> int:
    """Train the rule's network and its rivals at equal macs, compare them on the test split, write what came out."""
    run = load(arguments.folder, arguments.storage)
    if run.states["waiting"] + run.states["running"] or not run.has_result:
        raise InputError(f"{arguments.folder}: the search has no final rule yet; finish the run first")
    try:
        phis = parse_phis(arguments.phi)
    except ValueError as error:
        raise InputError(f"--phi: {error}") from None
    if min(phis) <= 0:
        raise InputError(f"--phi must be above 0, where there is something to split, but got {arguments.phi}")
    failed = 0
    with owned(arguments.folder), interrupts.deferred(STOPPING):
        for phi in phis:
            failed += _validate(run, phi, arguments)
        done = load(arguments.folder, arguments.storage)
        finish(done, arguments.storage)
    if arguments.json:
        print_json([one.to_json() for one in done.validations])
    else:
        display.show_validations(done.validations, done.study.metric)
    return 5 if failed else 0


def _validate(run: Run, phi: float, arguments: argparse.Namespace) -> int:
    """One φ. Returns how many networks failed."""
    from scalesearch.data.splits import check_fits, load_splits

    seeds = arguments.seeds or run.study.seeds
    for one in run.validations:
        if one.phi == phi and one.seeds > seeds:
            raise InputError(f"φ = {phi:g} is validated with {one.seeds} seeds already: --seeds must be at least that")
    config = validation_study(run.study, run.choice.shares, phi, seeds)
    made, names = rivals(config, run.choice.shares)
    splits = load_splits(config.data)
    check_fits(made.baseline.spec, splits, config.training.batch_size)
    if not len(splits.test):
        raise InputError(f"{config.data.source}: there is no test split; set `data.test` in the study")
    if splits.digest != run.fingerprint["data.digest"]:
        raise StudyMismatch(f"the data of {config.data.source} are not those that the rule was found with")
    if not arguments.json:
        sys.stdout.write(
            f"φ = {phi:g}: {len(names)} networks of {config.budget:g} × the baseline, {config.seeds} seeds\n"
        )
        sys.stdout.flush()
    url = arguments.storage or sqlite_url(arguments.folder)
    study = studies.open_study(open_storage(url), config, splits.digest)
    # The one place that reads the test split: as the validation of these trainings, none of which chooses anything.
    search = Search(config, made, study, measured=metric_of(config.metric).on_test)
    train_missing(search, dataclasses.replace(splits, validation=splits.test), url)
    found = studies.snapshot(study)
    try:
        table = validation_table(found.records, names, RULE, config.metric)
    except ValueError as error:
        raise InputError(f"φ = {phi:g}: {error}") from None
    read = found.last_date or date.today().isoformat()
    save_validation(arguments.folder, Validation(phi, config.budget, read, splits.digest, verdict(table), table))
    return sum(record.failure is not None for record in found.records)
