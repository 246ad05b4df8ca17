"""What does a race save, and what does it cost in certainty? On known surfaces, and on a finished run's own trainings.

    racing.py [--repetitions 200] [--quick] [--output FILE.md]
    racing.py --run DIR

The first form draws losses from the surfaces of planted_truth.py (15 candidates, at most three seeds each)
and lets a race and all seeds everywhere choose. Reported: trainings of the race as a part of all; both regrets (true
loss at the chosen split less the least); how far both choices lie apart in shares (median); how often the race's 95 %
region holds the truth, how often it says `resolved`, and how often wrongly (as planted_truth.py defines it).

The second form replays a race over a run in which all candidates were trained for all seeds: a training gives the same
result again, bit for bit, so only candidates that the race adds are trained, and are counted.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from planted_truth import BUDGET, CASES, Case, _choice, _holds, _optimum, allowed_regret, failing

from scalesearch.analysis.selection import choose
from scalesearch.analysis.tables import candidates_table, merged_records, trials_table
from scalesearch.config import StudyConfig
from scalesearch.records import TrialRecord
from scalesearch.results import load
from scalesearch.search.design import Plan, make_plan
from scalesearch.search.parts import derived
from scalesearch.search.racing import next_round
from scalesearch.search.worker import Evaluate
from tests.planted import planted_evaluate, planted_study


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="3 repetitions")
    parser.add_argument("--output", type=Path, help="also write the table there")
    parser.add_argument("--run", type=Path, metavar="DIR", help="replay a race over this finished run")
    arguments = parser.parse_args()
    if arguments.run:
        print(replay(arguments.run))
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
    for case in CASES:
        own = study.model_copy(update={"tolerance": case.tolerance})
        lines.append(_row(case, own, make_plan(own), repetitions))
        print(lines[-1], flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def raced(study: StudyConfig, plan: Plan, evaluate: Evaluate) -> list[TrialRecord]:
    """The records of a race, round by round."""
    records = [evaluate(trial.candidate, trial.seeds) for trial in plan.distinct]
    while wanted := next_round(study, plan, records):
        records += [evaluate(trial.candidate, trial.seeds) for trial in wanted]
    return records


def _row(case: Case, study: StudyConfig, plan: Plan, repetitions: int) -> str:
    truth, allowed = _optimum(case.surface), allowed_regret(case)
    least = case.surface.at(truth, BUDGET)
    costs, ours, theirs, apart = [], [], [], []
    held, resolved, all_resolved, wrong = 0, 0, 0, 0
    for key in range(repetitions):

        def evaluate(candidate, seeds, key=key):  # type: ignore[no-untyped-def]
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


def replay(folder: Path) -> str:
    """The race over the φ = 1 trainings of the run in `folder`: what it costs, and both choices."""
    run = load(folder)
    study = derived(run.study, race=True)
    plan = make_plan(study)
    own = [record for record in run.records if record.phi == 1]
    known = {record.candidate.spec: record for record in merged_records(own).values()}
    trained: list[TrialRecord] = []
    train = _training(study)

    def evaluate(candidate, seeds):  # type: ignore[no-untyped-def]
        record = known.get(candidate.spec)
        if record is None:
            trained.append(train(candidate, seeds))
            return trained[-1]
        wanted = tuple(seed for seed in record.seeds if seed.seed in seeds)
        return TrialRecord(candidate, wanted, None, 0.0, record.images_per_second, record.device, record.versions)

    records = raced(study, plan, evaluate)
    lines = [f"{len(trained)} candidates added and trained: {[record.candidate.spec.depths for record in trained]}"]
    whole_macs = sum(len(record.seeds) * record.candidate.complexity.macs for record in own)
    macs = sum(len(record.seeds) * record.candidate.complexity.macs for record in records)
    lines.append(f"trainings {sum(len(r.seeds) for r in records)} of {sum(len(r.seeds) for r in own)}")
    lines.append(f"training macs {macs / whole_macs:.1%} of all seeds everywhere")
    for name, some in (("race", records), ("all seeds everywhere", own)):
        table = candidates_table(some, study.budget, study.metric)
        choice = choose(trials_table(some), table, study.budget, study.metric)
        shares = ", ".join(f"{share:.3f}" for share in choice.shares.values)
        lines += [f"{name}: shares {shares} ({choice.where})", f"  {choice.signal.verdict}", f"  {choice.certainty}"]
    return "\n".join(lines)


def _training(study: StudyConfig) -> Callable[..., TrialRecord]:
    from scalesearch.search.objective import training_evaluation
    from scalesearch.training.cache import enable_compilation_cache
    from scalesearch.training.data import load_splits

    enable_compilation_cache()
    return training_evaluation(study, load_splits(study.data), lambda report: None)


if __name__ == "__main__":
    sys.exit(main())
