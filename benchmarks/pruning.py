"""What pruning saves, and what it costs in certainty: on known surfaces, and replayed over a finished run.

    pruning.py [--repetitions 40] [--run DIR]

The first form draws losses from surfaces of planted_truth.py, with the same differences in all epochs (45 candidates,
three seeds, seed noise 0.008). The second takes the learning curves of a run in which all candidates were trained for
all seeds, with seeds in turn and seeds side by side: trainings are reproducible, so nothing is trained. Each repetition
is a search through Optuna with another order of the candidates. The columns: epochs trained as a part of all;
candidates that finish; how often there is a surface; how often the pruned and the full search choose the same (within
0.05 in shares); how often the full search's best candidate finishes; both regrets, that is true loss (replayed: by the
full run's surface) at the chosen split minus the least; how often each of them is resolved.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from planted_truth import BUDGET, CASES, true_optimum

from scalesearch.analysis.choice import Choice, choose
from scalesearch.analysis.grounds import SAME
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.load import load
from scalesearch.results.records import TrialRecord
from scalesearch.scaling.simplex import Shares
from scalesearch.search.plan.design import Plan, make_plan
from scalesearch.search.plan.parts import derived
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import Evaluate, work
from scalesearch.study.sections import Study
from tests.planted import Planted, planted_evaluate, planted_study, watched

HEADER = (
    "search", "epochs, part of all", "candidates that finish", "a surface", "same choice", "best one finishes",
    "regret", "regret of the full search", "pruned: resolved", "full: resolved",
)  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="two repetitions")
    parser.add_argument("--run", type=Path, metavar="DIR", help="replay over this finished run")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions = 2
    print(f"| {' | '.join(HEADER)} |\n{'|---' * len(HEADER)}|")
    rows = replayed(arguments.run, arguments.repetitions) if arguments.run else planted(arguments.repetitions)
    for row in rows:
        print(row, flush=True)


def planted(repetitions: int) -> Iterator[str]:
    """A row for each surface."""
    for case in CASES[:4]:
        surface = case.surface
        least = surface.at(true_optimum(surface), BUDGET)
        study = planted_study(prune=True, seeds=3, design={"degree": 8})

        def evaluation(key: int, surface: Planted = surface) -> Evaluate:
            return planted_evaluate(surface, noise_sd=0.008, key=key)

        def loss(shares: Shares, surface: Planted = surface, least: float = least) -> float:
            return surface.at(shares, BUDGET) - least

        yield _row(case.name, study, evaluation, loss, repetitions)


def replayed(folder: Path, repetitions: int) -> Iterator[str]:
    """A row for seeds in turn, and one for seeds side by side."""
    run = load(folder)
    known = {record.candidate.spec: record for record in run.records if record.phi == 1}
    surface, sign = run.surface(), -1 if run.choice.maximise else 1
    grid = np.random.default_rng(0).dirichlet((1, 1, 1), 20_000)
    least = (sign * surface.predict(np.vstack([grid, np.eye(3)]))).min()

    def loss(shares: Shares) -> float:
        return float(sign * surface.predict(np.array([shares.values]))[0] - least)

    def evaluation(key: int, together: bool) -> Evaluate:
        del key
        return lambda candidate, seeds, watch=None: watched(known[candidate.spec], watch, together=together)

    study = derived(run.study, prune=True)
    for name, together in (("seeds in turn", False), ("seeds side by side", True)):
        yield _row(f"{study.name}, {name}", study, partial(evaluation, together=together), loss, repetitions)


def _row(
    name: str,
    study: Study,
    evaluation: Callable[[int], Evaluate],
    loss: Callable[[Shares], float],
    repetitions: int,
) -> str:
    values = np.array([_once(study, evaluation(key), loss, key) for key in range(repetitions)])
    epochs, finished, fitted, same, best, pruned, full, resolved, full_resolved = values.mean(0).tolist()
    return (
        f"| {name} | {epochs:.2f} | {finished:.1f} of {len(make_plan(study).distinct)} | {fitted:.0%} | {same:.0%} | "
        f"{best:.0%} | {pruned:.5f} | {full:.5f} | {resolved:.0%} | {full_resolved:.0%} |"
    )


def _once(study: Study, evaluate: Evaluate, loss: Callable[[Shares], float], key: int) -> tuple[float, ...]:
    study = study.model_copy(update={"design": study.design.model_copy(update={"seed": key})})
    plan = make_plan(study)
    full_records = [evaluate(trial.candidate, trial.seeds) for trial in plan.distinct]
    records = _searched(study, plan, evaluate)
    pruned, full = _choice(study, records), _choice(study, full_records)
    done = {record.candidate.spec for record in records if record.failure is None}
    sign = -1 if full.maximise else 1
    best = min(full_records, key=lambda record: sign * record.mean(study.metric))
    return (
        sum(len(seed.train_loss) for record in records for seed in record.seeds)
        / sum(len(seed.train_loss) for record in full_records for seed in record.seeds),
        len(done),
        pruned.surface is not None,
        math.dist(pruned.shares.values, full.shares.values) <= SAME,
        best.candidate.spec in done,
        loss(pruned.shares),
        loss(full.shares),
        pruned.signal.resolved,
        full.signal.resolved,
    )


def _searched(study: Study, plan: Plan, evaluate: Evaluate) -> list[TrialRecord]:
    """The records of a search through Optuna, in a temporary folder."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        optuna_study = studies.open_study(open_storage(sqlite_url(Path(folder))), study, "digest")
        studies.enqueue_missing(optuna_study, plan.distinct)
        work(optuna_study, study, plan, evaluate)
        return list(studies.records(optuna_study))


def _choice(study: Study, records: Sequence[TrialRecord]) -> Choice:
    table = candidates_table(records, study.budget, study.metric)
    return choose(trials_table(records), table, study.budget, study.metric)


if __name__ == "__main__":
    main()
