"""Do the statements of a choice hold? Known surfaces instead of training: coverage, regret, errors of `resolved`.

    planted_truth.py [--repetitions 200] [--quick] [--case WORDS] [--output FILE.md]

Each repetition draws the losses of the candidates of a lattice (three seeds each) from a known surface and noise, and
chooses as a run does. The lattice is {3, 4} (15 candidates), or {3, 6} (28) if no quadratic fits. The columns: how
often the 95 % region contains the true optimum; the mean regret of the choice (true loss at the chosen split minus the
least); how often the choice is resolved, and how often wrongly (no split is better than another, or the regret is
above a tenth of the range of losses over the triangle); how often the regret is within its 95 % bound; the regret of
the paper's method with as many trainings, the best of 45 or 84 single runs (a {3, 8} or {3, 12} lattice that really
costs the budget); and how often the surface is a Gaussian process.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # the planted surfaces are in tests/

from scalesearch.analysis.choice import Choice, choose
from scalesearch.analysis.optimum import optimum
from scalesearch.analysis.surfaces.polynomial import fit_polynomial
from scalesearch.analysis.tables import candidates_table, trials_table
from scalesearch.results.records import Failure, TrialRecord
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.simplex import Shares, lattice
from tests.planted import FUNNEL, WALLS, Planted, PlantedSurface, planted_candidates, planted_evaluate

SEEDS = (0, 1, 2)
GRID = tuple(lattice(100))
BUDGET = 2.0


@dataclass(frozen=True)
class Case:
    """A planted truth: its noise for each candidate, which candidates fail, and the degree of the lattice."""

    name: str
    surface: Planted
    noise_sd: Callable[[Candidate], float] = lambda candidate: 0.008
    tolerance: float = 0.02
    fails: Callable[[Candidate], bool] = lambda candidate: False
    degree: int = 4


def _heteroscedastic(candidate: Candidate) -> float:
    return 0.008 * math.exp(candidate.shares.depth - candidate.shares.width)


CASES = (
    Case("interior", PlantedSurface()),
    Case("edge", PlantedSurface(linear=(0.60, 0.50, 0.50), interaction=(-0.05, -0.05, -0.30))),
    Case("corner", PlantedSurface(linear=(0.60, 0.50, 0.55), interaction=(0.05, 0.05, 0.05))),
    Case("flat", PlantedSurface(linear=(0.5, 0.5, 0.5), interaction=(0.0, 0.0, 0.0))),
    Case("macs off by up to 10 %", PlantedSurface(), tolerance=0.10),
    Case("macs off by up to 10 %, of no effect", PlantedSurface(macs_effect=0.0), tolerance=0.10),
    Case("macs off by up to 10 %, of little effect", PlantedSurface(macs_effect=-0.1), tolerance=0.10),
    Case("noise 7 × larger in depth than in width", PlantedSurface(), noise_sd=_heteroscedastic),
    Case(
        "a fifth of the trials failed",
        PlantedSurface(),
        fails=lambda c: hash((7, *c.spec.depths, c.spec.resolution)) % 5 == 0,
    ),
    Case("a funnel", FUNNEL, degree=6),
    Case("walls", WALLS, degree=6),
)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="5 repetitions")
    parser.add_argument("--case", default="", help="only the cases that have these words in their name")
    parser.add_argument("--output", type=Path, help="also write the table there")
    arguments = parser.parse_args()
    repetitions = 5 if arguments.quick else arguments.repetitions
    columns = (
        f"{repetitions} repetitions each",
        "region contains the optimum",
        "region, part of the triangle",
        "regret",
        "regret of the best of as many single runs",
        "ratio",
        "resolved",
        "resolved wrongly",
        "regret within its bound",
        "Gaussian process",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for line in lines:
        print(line, flush=True)
    for case in (case for case in CASES if arguments.case in case.name):
        lines.append(_row(case, repetitions))
        print(lines[-1], flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Outcome(NamedTuple):
    """Counts over all repetitions, except `part`, `regret` and `paper`, which are means."""

    held: int
    part: float
    regret: float
    paper: float
    resolved: int
    wrong: int
    bounded: int
    processes: int


def measure(case: Case, repetitions: int) -> Outcome:
    """Draw the study of `case` that often, and choose each time."""
    truth = true_optimum(case.surface)
    candidates = planted_candidates(degree=case.degree, tolerance=case.tolerance)
    singles = planted_candidates(degree=2 * case.degree)[: len(candidates) * len(SEEDS)]
    least, allowed = case.surface.at(truth, BUDGET), allowed_regret(case)
    held, parts, regrets, papers, resolved, wrong, bounded, processes = 0, [], [], [], 0, 0, 0, 0
    for key in range(repetitions):
        choice = choice_of(records_of(case, candidates, SEEDS, key))
        held += contains(choice, truth)
        parts.append(1.0 if choice.region is None else choice.region.part)
        regrets.append(case.surface.at(choice.shares, BUDGET) - least)
        resolved += choice.signal.resolved
        wrong += choice.signal.resolved and regrets[-1] > allowed
        bounded += choice.region is None or regrets[-1] <= choice.region.regret + 1e-12
        processes += choice.surface is not None and choice.surface.model == "Gaussian process"
        papers.append(_best_single(case, singles, key) - least)
    ours, paper = float(np.mean(regrets)), float(np.mean(papers))
    return Outcome(held, float(np.mean(parts)), ours, paper, resolved, wrong, bounded, processes)


def _row(case: Case, n: int) -> str:
    outcome = measure(case, n)
    ratio = f"{outcome.regret / outcome.paper:.2f}" if outcome.paper > 1e-12 else "-"
    return (
        f"| {case.name} | {outcome.held / n:.1%} | {outcome.part:.1%} | {outcome.regret:.5f} | {outcome.paper:.5f} | "
        f"{ratio} | {outcome.resolved / n:.0%} | {outcome.wrong / n:.1%} | {outcome.bounded / n:.1%} | "
        f"{outcome.processes / n:.0%} |"
    )


def allowed_regret(case: Case) -> float:
    """The regret above which a resolved choice is wrong: a tenth of the range of losses over the triangle."""
    losses = [case.surface.at(point, BUDGET) for point in GRID]
    least = case.surface.at(true_optimum(case.surface), BUDGET)
    return 0.1 * (max(losses) - least) - 1e-12


def failing(case: Case) -> Callable[[Candidate], Failure | None]:
    """A function that returns the failure of a candidate, if it fails."""
    return lambda candidate: Failure("diverged", "planted") if case.fails(candidate) else None


def records_of(
    case: Case, candidates: tuple[Candidate, ...], seeds: tuple[int, ...], key: int
) -> tuple[TrialRecord, ...]:
    """The records of a study of `case`."""
    fail = failing(case)
    return tuple(
        planted_evaluate(case.surface, noise_sd=case.noise_sd(candidate), key=key, fail=fail)(candidate, seeds)
        for candidate in candidates
    )


def choice_of(records: tuple[TrialRecord, ...]) -> Choice:
    """The choice of a study with these records."""
    return choose(trials_table(records), candidates_table(records, BUDGET, "val_loss"), BUDGET, "val_loss")


def contains(choice: Choice, truth: Shares) -> bool:
    """Whether the confidence region contains the true optimum; without a surface it is the whole triangle."""
    return bool(choice.may_be_optimum(np.array([truth.values]))[0])


def _best_single(case: Case, candidates: tuple[Candidate, ...], key: int) -> float:
    """The paper's method, every candidate trained once and the best one taken: its true loss at the budget."""
    records = [record for record in records_of(case, candidates, (0,), key) if record.failure is None]
    best = min(records, key=lambda record: record.mean("val_loss"))
    return case.surface.at(best.candidate.shares, BUDGET)


def true_optimum(surface: Planted) -> Shares:
    """The true optimum; for a planted quadratic from a noise-free fit, which is exact."""
    if not isinstance(surface, PlantedSurface):
        return surface.best
    records = tuple(planted_evaluate(surface, seed_sd=0, noise_sd=0)(c, (0,)) for c in planted_candidates())
    return optimum(fit_polynomial(candidates_table(records, BUDGET, "val_loss"), BUDGET, "val_loss"), maximise=False)


if __name__ == "__main__":
    main()
