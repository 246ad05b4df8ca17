"""What does a race save, and what does it cost in certainty? On known surfaces, and on a finished run's own trainings.

    racing.py [--repetitions 200] [--quick] [--output FILE.md]
    racing.py --run DIR [--seeds N] [--orders]

The first form draws losses from the surfaces of planted_truth.py (15 candidates, at most three seeds each)
and lets a race and all seeds everywhere choose. Reported: trainings of the race as a part of all; both regrets (true
loss at the chosen split less the least); how far both choices lie apart in shares (median); how often the race's 95 %
region holds the truth, how often it says `resolved`, and how often wrongly (as planted_truth.py defines it).

The second form replays a race over a run in which all candidates were trained for all seeds: a training gives the same
result again, bit for bit, so only candidates and seeds that the run lacks are trained; all are counted. With
`--orders` it does so for every order in which the seeds may come, which a search's owner never chose.
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
from planted_truth import BUDGET, CASES, Case, _choice, _holds, _optimum, allowed_regret, failing

from scalesearch.analysis.choice import choose
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.load import load
from scalesearch.results.records import TrialRecord
from scalesearch.scaling.feasible import Candidate
from scalesearch.search.plan.design import Plan, make_plan
from scalesearch.search.plan.parts import derived
from scalesearch.search.plan.racing import next_round
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
        "regret of all seeds everywhere",
        "apart, in shares",
        "region holds the optimum",
        "resolved",
        "all seeds: resolved",
        "resolved wrongly",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    study = planted_study(race=True, seeds=3)
    for case in (case for case in CASES if case.degree == 4):
        own = study.model_copy(update={"tolerance": case.tolerance})
        lines.append(_row(case, own, make_plan(own), repetitions))
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
    truth, allowed = _optimum(case.surface), allowed_regret(case)
    least = case.surface.at(truth, BUDGET)
    costs, ours, theirs, apart = [], [], [], []
    held, resolved, all_resolved, wrong = 0, 0, 0, 0
    for key in range(repetitions):

        def evaluate(candidate: Candidate, seeds: tuple[int, ...], key: int = key) -> TrialRecord:
            planted = planted_evaluate(case.surface, noise_sd=case.noise_sd(candidate), key=key, fail=failing(case))
            return planted(candidate, seeds)

        records = raced(study, plan, evaluate)
        own = _choice(case, tuple(records))
        whole = _choice(case, tuple(evaluate(trial.candidate, (0, 1, 2)) for trial in plan.distinct))
        costs.append(sum(len(record.seeds) for record in records) / (3 * len(plan.distinct)))
        ours.append(case.surface.at(own.shares, BUDGET) - least)
        theirs.append(case.surface.at(whole.shares, BUDGET) - least)
        apart.append(math.dist(own.shares.values, whole.shares.values))
        held += _holds(own, truth)
        resolved += own.signal.resolved
        all_resolved += whole.signal.resolved
        wrong += own.signal.resolved and ours[-1] > allowed
    n = repetitions
    return (
        f"| {case.name} | {np.mean(costs):.2f} | {np.mean(ours):.5f} | {np.mean(theirs):.5f} | "
        f"{np.median(apart):.3f} | {held / n:.1%} | {resolved / n:.0%} | {all_resolved / n:.0%} | {wrong / n:.1%} |"
    )


def replay(folder: Path, seeds: int, orders: bool) -> list[str]:
    """Races of at most `seeds` over the φ = 1 trainings of the run in `folder`: what each costs, and all choices."""
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

    everywhere = tuple(range(study.seeds))
    whole = [evaluate(trial.candidate, everywhere, everywhere) for trial in plan.distinct]
    lines = [_told("all seeds everywhere", study, whole, whole)]
    for order in permutations(everywhere) if orders else (everywhere,):
        records = raced(study, plan, partial(evaluate, order=order))
        lines.append(_told(f"race, seeds in the order {order}", study, records, whole))
    return lines


def _told(name: str, study: Study, records: list[TrialRecord], whole: list[TrialRecord]) -> str:
    def macs(some: list[TrialRecord]) -> int:
        return sum(len(record.seeds) * record.candidate.complexity.macs for record in some)

    table = candidates_table(records, study.budget, study.metric)
    choice = choose(trials_table(records), table, study.budget, study.metric)
    shares = ", ".join(f"{share:.2f}" for share in choice.shares.values)
    return (
        f"{name}: {sum(len(record.seeds) for record in records)} trainings of {len(table)} candidates, "
        f"{macs(records) / macs(whole):.1%} of the macs; shares {shares} ({choice.where}); {choice.signal.verdict} "
        f"{choice.certainty}"
    )


def _training(study: Study) -> Callable[..., TrialRecord]:
    from scalesearch.data.splits import load_splits
    from scalesearch.search.evaluation import TrainingEvaluation

    return TrainingEvaluation(study, load_splits(study.data), lambda report: None)


if __name__ == "__main__":
    main()
