"""What is not training: counting, planning, the tables and report of many trials, and Optuna's share of a trial.

    bookkeeping.py [--trials 10000] [--storage URL] [--quick] [--output FILE.json]

Prints one JSON line of seconds. A million networks of EfficientNet-B0 are counted, and the feasible set is that of
EfficientNet-B7 at four times its macs. The tables, the choice with its surface and region, and the report are those
of one planted study of so many finished trials of one seed, nothing computed before.

Optuna's share of a trial is that of a worker whose evaluation takes no time, on top of a study that holds so many:
the median, over five rounds, of the mean of some twenty further trials. It is measured again with a tenth as many
more trials in the queue. A look is that of the process that shows progress: the mean of twenty where nothing has
changed. All are measured on SQLite, and on the storage at `--storage` (a PostgreSQL database that may be filled).
`cpu_s` is the time of the processor, which other programs on the machine change less.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))  # the planted surfaces are the tests'

import numpy as np
import optuna

from scalesearch.analysis.outcome import Outcome
from scalesearch.baselines.published import baseline
from scalesearch.report.html import render
from scalesearch.results.records import TrialRecord, candidate_to_json, record_to_json
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import scale
from scalesearch.scaling.cost.count import areas, complexity, count, tabulate
from scalesearch.scaling.feasible import Candidate, feasible_set
from scalesearch.scaling.reachable import reachable
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.looks import Watcher
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.stored_study import StoredStudy
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, planted_evaluate, planted_study

T = TypeVar("T")
# EfficientNet-B7 (arXiv:1905.11946, released code): width, depth and resolution of the B0 it is grown from.
B7 = Coefficients(alpha=3.1, beta=2.0, gamma=600 / 224)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--storage", help="an SQLAlchemy URL, measured as well as SQLite")
    parser.add_argument("--quick", action="store_true", help="100 trials")
    parser.add_argument("--output", type=Path, help="also write the line there")
    arguments = parser.parse_args()
    trials = 100 if arguments.quick else arguments.trials
    figures: dict[str, object] = {"trials": trials, **planning()}
    records = planted(trials)
    figures |= analysis(records)
    with tempfile.TemporaryDirectory() as folder:
        for url in filter(None, (sqlite_url(Path(folder)), arguments.storage)):
            name = url.partition(":")[0].partition("+")[0]
            optuna_study = filled(url, records)
            figures |= {f"{name}_{key}": value for key, value in bookkeeping(optuna_study, records).items()}
    line = json.dumps(figures)
    print(line)
    if arguments.output:
        arguments.output.write_text(line + "\n", encoding="utf-8")


def planning() -> dict[str, object]:
    """Counting a million networks, and one large feasible set."""
    b0 = baseline("efficientnet-b0")
    axes = reachable(b0.spec, b0.rounding, 12 * complexity(b0.spec).macs)  # a hundred values on each axis
    some = [rows[: min(len(rows), 100)] for rows in (axes.depths, axes.widths, axes.resolutions)]
    networks = [len(rows) for rows in some]
    repeats = -(-1_000_000 // int(np.prod(networks)))

    def million() -> None:
        depths = np.tile(some[0], (repeats, 1))
        count(tabulate(b0.spec, some[1]).macs, depths, areas(b0.spec, some[2]))

    large = scale(b0.spec, B7, b0.rounding)
    seconds, feasible = timed(lambda: feasible_set(large, b0.rounding, 4.0, 0.02))
    return {
        "networks_counted": repeats * int(np.prod(networks)),
        "counting_s": round(timed(million)[0], 3),
        "b7_feasible_s": round(seconds, 3),
        "b7_counted": feasible.counted,
        "b7_combinations": feasible.combinations,
        "b7_feasible": len(feasible),
    }


def planted(trials: int) -> list[TrialRecord]:
    """So many records of one seed, of distinct networks as far as there are any."""
    study = planted_study(seeds=1, tolerance=0.05)
    small = study.resolved_baseline()
    feasible = feasible_set(small.spec, small.rounding, study.budget, study.tolerance)
    evaluate = planted_evaluate(PlantedSurface())
    seeds, rows = divmod(np.arange(trials), len(feasible))
    return [evaluate(feasible.candidate(row), (seed,)) for seed, row in zip(seeds.tolist(), rows.tolist(), strict=True)]


def analysis(records: list[TrialRecord]) -> dict[str, object]:
    """What `finish` computes from records, without writing it."""
    states = {"waiting": 0, "running": 0, "complete": len(records), "pruned": 0, "failed": 0}
    outcome = Outcome(planted_study(seeds=1, tolerance=0.05), tuple(records), {}, states, {}, None)
    tabulating, (_, candidates) = timed(lambda: (outcome.trials, outcome.candidates))
    choosing, _ = timed(lambda: outcome.choice)
    reporting, page = timed(lambda: render(outcome))
    return {
        "candidates": len(candidates),
        "tables_s": round(tabulating, 3),
        "choice_s": round(choosing, 3),
        "report_s": round(reporting, 3),
        "report_bytes": len(page.encode()),
    }


def filled(url: str, records: list[TrialRecord]) -> StoredStudy:
    """A new study that holds the records as finished trials."""
    study = planted_study(name=f"bookkeeping-{time.time_ns()}", seeds=1, tolerance=0.05, design={"degree": 5})
    optuna_study = studies.open_study(open_storage(url), study, "digest")
    ended = [
        optuna.create_trial(
            value=record.mean(study.metric),
            params={"depth_share": record.candidate.shares.depth_share, "width_fraction": 0.5},
            distributions={
                name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in ("depth_share", "width_fraction")
            },
            user_attrs={
                "candidate": candidate_to_json(record.candidate),
                "seeds": [seed.seed for seed in record.seeds],
                "record": record_to_json(record),
            },
        )
        for record in records
    ]
    optuna_study.add_trials(ended)
    return optuna_study


def bookkeeping(optuna_study: StoredStudy, records: list[TrialRecord]) -> dict[str, float]:
    """What a worker's trial and a watcher's look take, on top of the `records` that are stored."""
    rounds = [overhead(optuna_study, records, seed) for seed in range(10**6, 10**6 + 5)]  # seeds of no stored trial
    plan = make_plan(studies.study_of(optuna_study))
    more = range(2 * 10**6, 2 * 10**6 + len(records) // 10)
    for seed in more:
        studies.enqueue(optuna_study, plan.distinct[0].candidate, (seed,), planned=False)
    watcher = Watcher(optuna_study)
    watcher.look()
    look = statistics.fmean(timed(watcher.look)[0] for _ in range(20))
    queue = overhead(optuna_study, records, 10**7, most=20)
    return {
        "s_per_trial": round(statistics.median(wall for wall, _ in rounds), 4),
        "cpu_s_per_trial": round(statistics.median(cpu for _, cpu in rounds), 4),
        "waiting": len(more),
        "s_per_trial_of_queue": round(queue[0], 4),
        "cpu_s_per_trial_of_queue": round(queue[1], 4),
        "s_per_look": round(look, 4),
    }


def overhead(
    optuna_study: StoredStudy, records: list[TrialRecord], seed: int, most: int | None = None
) -> tuple[float, float]:
    """Seconds and processor seconds that a worker takes for a trial that costs nothing.

    The mean over a plan for `seed`, of which no trial is stored, or over the first `most` trials of the queue.
    """
    study = studies.study_of(optuna_study)
    plan = make_plan(study)
    trials = [dataclasses.replace(trial, seeds=(seed,)) for trial in plan.distinct]
    studies.enqueue_missing(optuna_study, trials, planned=False)
    begun: list[tuple[float, float]] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on) -> TrialRecord:
        begun.append((time.perf_counter(), time.process_time()))
        if len(begun) == most:
            raise KeyboardInterrupt
        return dataclasses.replace(records[len(begun)], candidate=candidate)

    with contextlib.suppress(KeyboardInterrupt):
        work(optuna_study, study, dataclasses.replace(plan, trials=tuple(trials)), evaluate)
    first, last = begun[0], begun[-1]
    return (last[0] - first[0]) / (len(begun) - 1), (last[1] - first[1]) / (len(begun) - 1)


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what `function` returns."""
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


if __name__ == "__main__":
    main()
