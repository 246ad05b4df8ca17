"""What a race saves, and what it costs in certainty: on known surfaces, and on the trainings of a finished run.

    racing.py [--repetitions 200] [--quick] [--output FILE.md]
    racing.py --run DIR [--seeds N] [--orders]

The first form draws losses from the surfaces of planted_truth.py (15 candidates, at most three seeds each). A race
chooses, and so does a search with all seeds for all candidates. The columns: trainings of the race as a part of all;
both regrets (true loss at the chosen split minus the least); the distance between the choices in shares (median); how
often the race's 95 % region contains the truth, how often the race is resolved, and how often wrongly (as
planted_truth.py defines it).

The second form replays a race over a run in which all candidates were trained for all seeds. A training is
reproducible bit by bit, so only candidates and seeds that the run lacks are trained; all are counted. With `--orders`
it does so for every order of the seeds, since their order is arbitrary.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
from planted_truth import BUDGET, CASES, Case, allowed_regret, choice_of, contains, failing, true_optimum

from scalesearch.analysis.choice import choose
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.load import load
from scalesearch.results.records import TrialRecord
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import Plan, make_plan
from scalesearch.search.plan.parts import derived
from scalesearch.search.plan.racing import next_round
from scalesearch.search.queue.pruning import Watch, goes_on
from scalesearch.search.queue.work import Evaluate
from scalesearch.study.sections import Study
from tests.planted import planted_evaluate, planted_study


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="3 repetitions")
    parser.add_argument("--output", type=Path, help="also write the table there")
    parser.add_argument("--run", type=Path, metavar="DIR", help="replay a race over this finished run")
    parser.add_argument("--seeds", type=int, default=1, help="with --run: the most seeds (default: the run's)")
    parser.add_argument("--orders", action="store_true", help="with --run: every order of the seeds")
    arguments = parser.parse_args()
    if arguments.run:
        print("\n".join(replay(arguments.run, arguments.seeds, arguments.orders)))
        return
    repetitions = 3 if arguments.quick else arguments.repetitions
    columns = (
        f"{repetitions} repetitions each",
        "trainings, part of all",
        "regret of the race",
        "regret of all seeds",
        "distance in shares",
        "region contains the optimum",
        "resolved",
        "all seeds: resolved",
        "resolved wrongly",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    study = planted_study(race=True, seeds=3)
    for case in (case for case in CASES if case.degree == 4):
        study_of_case = study.model_copy(update={"tolerance": case.tolerance})
        lines.append(_row(case, study_of_case, make_plan(study_of_case), repetitions))
        print(lines[-1], flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def raced(study: Study, plan: Plan, evaluate: Evaluate) -> list[TrialRecord]:
    """The records of a race, round by round."""
    records = [evaluate(trial.candidate, trial.seeds) for trial in plan.distinct]
    while wanted := next_round(study, plan, records):
        records += [evaluate(trial.candidate, trial.seeds) for trial in wanted]
    return records


def _row(case: Case, study: Study, plan: Plan, repetitions: int) -> str:
    truth, allowed = true_optimum(case.surface), allowed_regret(case)
    least = case.surface.at(truth, BUDGET)
    costs, race_regrets, full_regrets, distances = [], [], [], []
    contained, resolved, full_resolved, wrong = 0, 0, 0, 0
    for key in range(repetitions):

        def evaluate(
            candidate: Candidate, seeds: tuple[int, ...], watch: Watch = goes_on, key: int = key
        ) -> TrialRecord:
            planted = planted_evaluate(case.surface, noise_sd=case.noise_sd(candidate), key=key, fail=failing(case))
            return planted(candidate, seeds)

        records = raced(study, plan, evaluate)
        race = choice_of(tuple(records))
        full = choice_of(tuple(evaluate(trial.candidate, (0, 1, 2)) for trial in plan.distinct))
        costs.append(sum(len(record.seeds) for record in records) / (3 * len(plan.distinct)))
        race_regrets.append(case.surface.at(race.shares, BUDGET) - least)
        full_regrets.append(case.surface.at(full.shares, BUDGET) - least)
        distances.append(math.dist(race.shares.values, full.shares.values))
        contained += contains(race, truth)
        resolved += race.signal.resolved
        full_resolved += full.signal.resolved
        wrong += race.signal.resolved and race_regrets[-1] > allowed
    n = repetitions
    return (
        f"| {case.name} | {np.mean(costs):.2f} | {np.mean(race_regrets):.5f} | {np.mean(full_regrets):.5f} | "
        f"{np.median(distances):.3f} | {contained / n:.1%} | {resolved / n:.0%} | {full_resolved / n:.0%} | "
        f"{wrong / n:.1%} |"
    )


def replay(folder: Path, seeds: int, orders: bool) -> list[str]:
    """Races with at most `seeds` over the φ = 1 trainings of the run in `folder`: the cost and choice of each."""
    run = load(folder)
    study = derived(run.study, race=True, seeds=max(seeds, run.study.seeds))
    plan = make_plan(study)
    known = {
        (record.candidate.spec, seed.seed): (record, seed)
        for record in run.records
        for seed in record.seeds
        if record.phi == 1
    }
    train = _training(study)

    def evaluate(candidate: Candidate, wanted: tuple[int, ...], order: tuple[int, ...]) -> TrialRecord:
        missing = tuple(order[place] for place in wanted if (candidate.spec, order[place]) not in known)
        if missing:
            record = train(candidate, missing)
            known.update({(candidate.spec, seed.seed): (record, seed) for seed in record.seeds})
        runs = [known[candidate.spec, order[place]] for place in wanted]
        renamed = (dataclasses.replace(seed, seed=place) for place, (_, seed) in zip(wanted, runs, strict=True))
        return dataclasses.replace(runs[0][0], seeds=tuple(renamed))

    all_seeds = tuple(range(study.seeds))
    full = [evaluate(trial.candidate, all_seeds, all_seeds) for trial in plan.distinct]
    lines = [_summary("all seeds for all candidates", study, full, full)]
    for order in permutations(all_seeds) if orders else (all_seeds,):
        records = raced(study, plan, partial(evaluate, order=order))
        lines.append(_summary(f"race, seeds in the order {order}", study, records, full))
    return lines


def _summary(name: str, study: Study, records: list[TrialRecord], full: list[TrialRecord]) -> str:
    def macs(some: list[TrialRecord]) -> int:
        return sum(len(record.seeds) * record.candidate.complexity.macs for record in some)

    table = candidates_table(records, study.budget, study.metric)
    choice = choose(trials_table(records), table, study.budget, study.metric)
    shares = ", ".join(f"{share:.2f}" for share in choice.shares.values)
    return (
        f"{name}: {sum(len(record.seeds) for record in records)} trainings of {len(table)} candidates, "
        f"{macs(records) / macs(full):.1%} of the macs; shares {shares} ({choice.where}); {choice.signal.verdict} "
        f"{choice.certainty}"
    )


def _training(study: Study) -> Callable[..., TrialRecord]:
    from scalesearch.data.splits import load_splits
    from scalesearch.search.evaluation import TrainingEvaluation

    return TrainingEvaluation(study, load_splits(study.data), lambda report: None)


if __name__ == "__main__":
    main()
