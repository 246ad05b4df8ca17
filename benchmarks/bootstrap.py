"""The confidence region against a bootstrap over candidates and seeds, on the studies of `planted_truth.py`.

    bootstrap.py [--repetitions 200] [--resamples 400] [--quick] [--output FILE.md]

Each study has 15 candidates and three paired seeds. A resample draws seeds (the same for all candidates) and candidates
with replacement until they determine the quadratic surface, and takes its optimum. The 95 % intervals of the bootstrap
are percentiles of the optima, share by share. Columns, for the bootstrap and for the region of `choose`: how often the
intervals contain the true shares (all three; each, on average), and their mean width.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from planted_truth import BUDGET, CASES, SEEDS, Case, choice_of, records_of, true_optimum
from threadpoolctl import threadpool_limits

from scalesearch.analysis.optimum import optimum
from scalesearch.analysis.statistics import FloatArray
from scalesearch.analysis.surfaces.mixture import QUADRATIC, TERMS, mixture_terms
from scalesearch.analysis.surfaces.polynomial import fit_polynomial
from scalesearch.analysis.tables import candidates_table
from scalesearch.results.records import TrialRecord
from tests.planted import planted_candidates

# The region is computed on a lattice with about this spacing in shares.
_SLACK = 0.002


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="3 repetitions of 50 resamples")
    parser.add_argument("--output", type=Path, help="also write the table there")
    arguments = parser.parse_args()
    repetitions, resamples = (3, 50) if arguments.quick else (arguments.repetitions, arguments.resamples)
    lines = [
        f"| {repetitions} repetitions each | intervals | all hold | each holds | width, in shares |",
        "|---|---|---|---|---|",
    ]
    with threadpool_limits(1, user_api="blas"):
        for case in (case for case in CASES if case.degree == 4 and case.name != "flat"):
            lines += _rows(case, repetitions, resamples)
            print("\n".join(lines[-2:]), flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(case: Case, repetitions: int, resamples: int) -> list[str]:
    truth, candidates = np.array(true_optimum(case.surface).values), planted_candidates(tolerance=case.tolerance)
    bounds: dict[str, list[FloatArray]] = {"bootstrap, percentiles": [], "region": []}
    for key in range(repetitions):
        records = tuple(one for one in records_of(case, candidates, SEEDS, key) if one.failure is None)
        optima = _optima(records, resamples, np.random.default_rng(key))
        bounds["bootstrap, percentiles"].append(np.percentile(optima, (2.5, 97.5), axis=0))
        region = choice_of(records).region
        if region is not None:
            bounds["region"].append(np.stack([region.low, region.high]))
    return [_row(case.name, name, np.stack(each), truth) for name, each in bounds.items()]


def _row(case: str, name: str, bounds: FloatArray, truth: FloatArray) -> str:
    """One line of `bounds` (repetitions, 2, 3)."""
    contained = (bounds[:, 0] <= truth + _SLACK) & (truth - _SLACK <= bounds[:, 1])
    width = np.ptp(bounds, axis=1).mean()
    return f"| {case} | {name} | {contained.all(axis=1).mean():.1%} | {contained.mean():.1%} | {width:.3f} |"


def _optima(records: tuple[TrialRecord, ...], resamples: int, draw: np.random.Generator) -> FloatArray:
    """The optima (resamples, 3) of quadratic surfaces fitted to resampled candidates and seeds."""
    table = candidates_table(records, BUDGET, "val_loss")
    fit = fit_polynomial(table, BUDGET, "val_loss")
    shares = np.array([record.candidate.shares.values for record in records])
    log_ratio = np.log([record.candidate.cost_ratio / BUDGET for record in records])
    design = np.column_stack([mixture_terms(shares, TERMS[QUADRATIC]), log_ratio])
    losses = np.array([[seed.val_loss for seed in record.seeds] for record in records])
    optima: list[tuple[float, ...]] = []
    while len(optima) < resamples:
        rows, seeds = draw.integers(len(records), size=len(records)), draw.integers(len(SEEDS), size=len(SEEDS))
        if np.linalg.matrix_rank(design[rows], tol=1e-6) == design.shape[1]:
            terms = np.linalg.lstsq(design[rows], losses[rows][:, seeds].mean(axis=1), rcond=None)[0]
            resampled = dataclasses.replace(
                fit, model=QUADRATIC, coefficients=tuple(terms), covariance=tuple(map(tuple, np.eye(7).tolist()))
            )
            optima.append(optimum(resampled, maximise=False).values)
    return np.array(optima)


if __name__ == "__main__":
    main()
