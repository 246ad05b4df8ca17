"""Candidates compared by their runs: variance between candidates and seeds, the tied set, chances of being best.

Two-way additive model y = candidate + seed + error: all candidates see the same seeds, so what a seed
does to all of them is no noise in their comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import chi2
from scipy.stats import t as student

from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.surfaces.base import FloatArray, f_test
from scalesearch.results.records import DONE

LEVEL = 0.95
# Draws behind the chances: 20,000 give each within 0.007 (two standard errors).
DRAWS = 20_000
# Candidates that can have a chance; those behind them are counted as having none.
CONTENDERS = 200


@dataclass(frozen=True, slots=True)
class Variance:
    """The variance of a metric, between candidates and seeds; `Signal` says what each is."""

    spread: float | None
    seed_sd: float | None
    noise: float | None
    f: float | None
    p: float | None
    intraclass: float | None


@dataclass(frozen=True, slots=True)
class TwoWay:
    """The two-way model: candidates' numbers, levels φ (K), means (K) without the seeds' effects, and runs of each (K).

    `error_df` degrees of freedom are behind `error_variance`, that of one run; None where there are none.
    `f`, `p` test the candidates. Units are the metric's.
    """

    candidates: tuple[int, ...]
    phi: FloatArray
    means: FloatArray
    counts: FloatArray
    error_variance: float | None
    error_df: int
    f: float | None
    p: float | None

    def half_widths(self) -> FloatArray:
        """Half the intervals (K) of the means at `LEVEL`, each for itself (Student's t); 0 where there is no error."""
        if self.error_variance is None:
            return np.zeros(len(self.means))
        quantile = float(student.ppf((1 + LEVEL) / 2, self.error_df))
        return np.asarray(quantile * np.sqrt(self.error_variance / self.counts))

    def variance(self) -> Variance:
        """What the model says of the spread."""
        levels = np.unique(self.phi, return_inverse=True)[1]
        own = len(self.means) - int(levels.max(initial=-1)) - 1
        if own < 1:
            return Variance(None, None, None, None, None, None)
        centres = np.bincount(levels, self.means) / np.bincount(levels)
        spread = math.sqrt(float(((self.means - centres[levels]) ** 2).sum()) / own)
        if self.error_variance is None:
            return Variance(spread, None, None, None, None, None)
        noise = self.error_variance * float((1 / self.counts).mean())
        between = max(spread**2 - noise, 0.0)
        total = between + self.error_variance
        within = between / total if total > 0 else 0.0
        return Variance(spread, math.sqrt(self.error_variance), math.sqrt(noise), self.f, self.p, within)


def finished_runs(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The runs in `trials` (`tables.TRIAL_COLUMNS`) that count: the latest of each seed, of networks that did not fail.

    A network failed where its latest trial did.
    """
    latest = trials["trial"].eq(trials.groupby("candidate")["trial"].transform("max"))
    failed = trials.loc[latest & trials["status"].ne(DONE), "candidate"]
    counts = trials["status"].eq(DONE) & np.isfinite(trials[metric]) & ~trials["candidate"].isin(failed)
    finished: pd.DataFrame = trials[counts].drop_duplicates(["candidate", "seed"], keep="last")
    return finished


def two_way(runs: pd.DataFrame, metric: str) -> TwoWay:
    """Least squares of candidate + seed, of each level its own; candidates are swept out: only seeds are columns."""
    candidate, numbers = pd.factorize(runs["candidate"])
    seed = runs.groupby(["phi", "seed"]).ngroup().to_numpy()
    seeds = np.unique(seed)
    phi = np.zeros(len(numbers))
    phi[candidate] = runs["phi"]
    candidates = len(numbers)
    y, counts = runs[metric].to_numpy(float), np.bincount(candidate, minlength=candidates).astype(float)
    indicators = np.eye(len(seeds))[seed]

    def within(values: FloatArray) -> FloatArray:
        sums = np.zeros((candidates, values.shape[1]))
        np.add.at(sums, candidate, values)
        return np.asarray(values - (sums / counts[:, None])[candidate])

    swept = within(indicators)
    effects, _, rank, _ = np.linalg.lstsq(swept, within(y[:, None])[:, 0], rcond=1e-10)
    adjusted = y - indicators @ (effects - effects.mean()) if len(seeds) else y
    means = np.bincount(candidate, adjusted, minlength=candidates) / counts
    error_df, df = len(y) - candidates - int(rank), candidates + int(rank) - len(seeds)
    names = (tuple(map(int, numbers)), phi)
    if error_df < 1 or df < 1:
        return TwoWay(*names, means, counts, None, 0, None, None)
    error_ss = float(((adjusted - means[candidate]) ** 2).sum())
    by_seed = np.bincount(seed, y) / np.bincount(seed)
    f, p = f_test(float(((y - by_seed[seed]) ** 2).sum()), error_ss, df, error_df)
    return TwoWay(*names, means, counts, error_ss / error_df, error_df, f if math.isfinite(f) else None, p)


def compare(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """By candidate number: `chance` of being the best of its level, and `tied`: not told from that one at 95 %.

    Of the finished candidates in `trials` (`tables.TRIAL_COLUMNS`). With no noise to be seen (one seed each) no
    chance is known and all are tied. Raises `ValueError` for an unknown metric.
    """
    model = two_way(finished_runs(trials, metric), metric)
    losses = -model.means if metric_of(metric).maximise else model.means
    chance, tied = np.full(len(losses), np.nan), np.ones(len(losses), bool)
    if model.error_variance is not None:
        error = math.sqrt(model.error_variance)
        for phi in np.unique(model.phi):
            own = model.phi == phi
            chance[own] = _chances(losses[own], error / np.sqrt(model.counts[own]), model.error_df)
            tied[own] = _tied(losses[own], error, model.counts[own], model.error_df)
    return pd.DataFrame({"chance": chance, "tied": tied}, index=pd.Index(model.candidates, name="candidate"))


def _chances(losses: FloatArray, errors: FloatArray, df: int) -> FloatArray:
    """How often each mean is the least, where all are drawn anew with their standard errors (parametric bootstrap)."""
    contenders = losses.argsort(kind="stable")[:CONTENDERS]
    random = np.random.default_rng(0)
    scale = np.sqrt(df / random.chisquare(df, (DRAWS, 1)))
    drawn = losses[contenders] + scale * errors[contenders] * random.standard_normal((DRAWS, len(contenders)))
    chance = np.zeros(len(losses))
    chance[contenders] = np.bincount(drawn.argmin(axis=1), minlength=len(contenders)) / DRAWS
    return chance


def _tied(losses: FloatArray, error: float, counts: FloatArray, df: int) -> np.ndarray:
    """Which candidates (K,) may be the best: with confidence `LEVEL` the one that is best in truth is among them.

    Multiple comparisons with the best: a candidate is out if it is too far behind any other.
    Source: Hsu, "Multiple Comparisons", 1996, §4.1.
    """
    if len(losses) < 2 or error == 0:
        return np.asarray(losses <= losses.min(initial=np.inf))
    tied = np.zeros(len(losses), bool)
    sizes, members = np.unique(counts, return_counts=True)
    for size in sizes.tolist():
        others = members - (sizes == size)
        bound = _critical(size, sizes, others, df) * error
        for place in np.flatnonzero(counts == size).tolist():
            behind = (losses[place] - losses) / np.sqrt(1 / size + 1 / counts)
            tied[place] = behind.max() <= bound
    return tied


def _critical(size: float, sizes: FloatArray, others: np.ndarray, df: int) -> float:
    """C with P(max over j of (zᵢ/√nᵢ − zⱼ/√nⱼ) ÷ √(1/nᵢ + 1/nⱼ) ≤ c·χ) = `LEVEL`: Dunnett's, one-sided.

    `others` of each of the `sizes` n are compared with one of `size` runs; z are standard normal and χ² is
    chi-square with `df` degrees of freedom ÷ `df`. By quadrature over zᵢ and χ.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(48)
    weights = weights / weights.sum()
    chi = np.sqrt(chi2.ppf((np.arange(64) + 0.5) / 64, df) / df)
    spread = np.sqrt(1 / size + 1 / sizes)

    def excess(c: float) -> float:
        reach = np.sqrt(sizes) * (c * chi[:, None, None] * spread + nodes[:, None] / math.sqrt(size))
        held = np.exp((others * np.log(np.maximum(ndtr(reach), 1e-300))).sum(axis=-1))
        return float((held @ weights).mean()) - LEVEL

    return float(brentq(excess, -10.0, 1e6, xtol=1e-6))
