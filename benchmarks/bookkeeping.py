"""What is not training: counting, planning, the tables and report of many trials, and Optuna's share of a trial.

    bookkeeping.py [--trials 10000] [--storage URL] [--quick] [--output FILE.json]

Prints one JSON line of seconds. A million networks of EfficientNet-B0 are counted, and the feasible set is that of
EfficientNet-B7 at four times its macs. The tables, the choice with its surface and region, and the report are those
of one planted study of so many finished trials of one seed, nothing computed before. Optuna's share of a trial is
that of a worker whose objective takes no time, with the progress that `run` shows, on top of a study that holds so
many: the median, over five rounds, of the mean of some twenty further trials. It is measured on SQLite, and on the
storage at `--storage` (a PostgreSQL database that may be filled).
"""

from __future__ import annotations

import argparse
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
from scalesearch.report.progress import SearchProgress
from scalesearch.results.records import TrialRecord, candidate_to_json, record_to_json
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.compound import scale
from scalesearch.scaling.cost.count import areas, complexity, count, tabulate
from scalesearch.scaling.feasible import Candidate, feasible_set
from scalesearch.scaling.reachable import reachable
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.looks import Reader
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from tests.planted import PlantedSurface, planted_evaluate, planted_study

T = TypeVar("T")
# EfficientNet-B7 (arXiv:1905.11946, released code): width, depth and resolution of the B0 it is grown from.
B7 = Coefficients(alpha=3.1, beta=2.0, gamma=600 / 224)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--storage", help="an SQLAlchemy URL, measured beside SQLite")
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
            study = filled(url, records)
            rounds = [overhead(study, records, seed) for seed in range(10**6, 10**6 + 5)]  # of none of those stored
            figures[f"optuna_{name}_s_per_trial"] = round(statistics.median(rounds), 4)
    line = json.dumps(figures)
    print(line)
    if arguments.output:
        arguments.output.write_text(line + "\n", encoding="utf-8")


def planning() -> dict[str, object]:
    """Counting a million networks, and one large feasible set."""
    own = baseline("efficientnet-b0")
    axes = reachable(own.spec, own.rounding, 12 * complexity(own.spec).macs)  # a hundred values on each axis
    some = [rows[: min(len(rows), 100)] for rows in (axes.depths, axes.widths, axes.resolutions)]
    networks = [len(rows) for rows in some]
    repeats = -(-1_000_000 // int(np.prod(networks)))

    def million() -> None:
        depths = np.tile(some[0], (repeats, 1))
        count(tabulate(own.spec, some[1]).macs, depths, areas(own.spec, some[2]))

    large = scale(own.spec, B7, own.rounding)
    seconds, found = timed(lambda: feasible_set(large, own.rounding, 4.0, 0.02))
    return {
        "networks_counted": repeats * int(np.prod(networks)),
        "counting_s": round(timed(million)[0], 3),
        "b7_feasible_s": round(seconds, 3),
        "b7_counted": found.counted,
        "b7_combinations": found.combinations,
        "b7_feasible": len(found),
    }


def planted(trials: int) -> list[TrialRecord]:
    """So many records of one seed, of distinct networks as far as there are any."""
    study = planted_study(seeds=1, tolerance=0.05)
    own = study.resolved_baseline()
    found = feasible_set(own.spec, own.rounding, study.budget, study.tolerance)
    evaluate = planted_evaluate(PlantedSurface())
    seeds, rows = divmod(np.arange(trials), len(found))
    return [evaluate(found.candidate(row), (seed,)) for seed, row in zip(seeds.tolist(), rows.tolist(), strict=True)]


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


def filled(url: str, records: list[TrialRecord]) -> studies.Study:
    """A new study that holds the records as finished trials."""
    config = planted_study(name=f"overhead-{time.time_ns()}", seeds=1, tolerance=0.05, design={"degree": 5})
    study = studies.open_study(open_storage(url), config, "digest")
    done = [
        optuna.create_trial(
            value=record.mean(config.metric),
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
    study.add_trials(done)
    return study


def overhead(study: studies.Study, records: list[TrialRecord], seed: int) -> float:
    """Seconds a trial that costs nothing takes a worker: the mean over a plan, for `seed`, of which none is stored."""
    config = studies.config_of(study)
    plan = make_plan(config)
    asked = [dataclasses.replace(one, seeds=(seed,)) for one in plan.distinct]
    studies.enqueue_missing(study, asked, planned=False)  # more than the plan of the round after
    by_task = {(one.candidate.spec, one.seeds): record for one, record in zip(asked, records, strict=False)}
    begun: list[float] = []

    def evaluate(candidate: Candidate, seeds: tuple[int, ...]) -> TrialRecord:
        begun.append(time.perf_counter())
        return by_task[candidate.spec, seeds]

    reader = Reader()
    stored = reader.new(study.get_trials(deepcopy=False))
    progress = SearchProgress(config, len(stored) + len(asked), None, stored)
    work(
        study,
        config,
        dataclasses.replace(plan, trials=tuple(asked)),
        evaluate,
        lambda finished: None,
        progress.waiting,
        on_look=lambda seen, states: progress.seen(reader.new(seen), len(stored) + len(asked)),
    )
    return (begun[-1] - begun[0]) / (len(begun) - 1)


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what `function` returns."""
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


if __name__ == "__main__":
    main()
