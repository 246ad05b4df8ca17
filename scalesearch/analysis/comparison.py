"""Candidates compared by their runs: variance between candidates and seeds, chances of being best, the tied set.

All candidates see the same seeds, so the additive model metric = candidate + seed + error applies: what a seed does to
all candidates is not noise in their comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import chi2
from scipy.stats import t as student

from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.statistics import LEVEL, FloatArray, f_test
from scalesearch.results.records import DONE

# Number of draws for the chances: 20,000 give each chance to within 0.007 (two standard errors).
DRAWS = 20_000
# Number of the best candidates that can have a chance; the chance of all others is 0.
CONTENDERS = 200
# A standard error below this part of the losses is rounding: there is no noise.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class TwoWay:
    """The two-way model of a metric; all values in the metric's unit.

    Attributes:
        candidates: numbers of the candidates (K,).
        phi: their levels φ (K,).
        means: their means (K,) without the seeds' effects.
        counts: their numbers of runs (K,).
        seeds: number of distinct seeds.
        error_variance: variance of one run; None without degrees of freedom.
        error_df: degrees of freedom of `error_variance`.
        f: F of the candidates; None without an error, or if F is infinite.
        p: its p value; None without an error.
    """

    candidates: tuple[int, ...]
    phi: FloatArray
    means: FloatArray
    counts: FloatArray
    seeds: int
    error_variance: float | None
    error_df: int
    f: float | None
    p: float | None

    def half_widths(self) -> FloatArray:
        """Half the intervals (K,) of the single means at `LEVEL` (Student's t); 0 without an error."""
        if self.error_variance is None:
            return np.zeros(len(self.means))
        quantile = float(student.ppf((1 + LEVEL) / 2, self.error_df))
        return np.asarray(quantile * np.sqrt(self.error_variance / self.counts))

    @property
    def spread(self) -> float | None:
        """Standard deviation of the means within a level; None if no level has two candidates."""
        levels = np.unique(self.phi, return_inverse=True)[1]
        df = len(self.means) - int(levels.max(initial=-1)) - 1
        if df < 1:
            return None
        centres = np.bincount(levels, self.means) / np.bincount(levels)
        return math.sqrt(float(((self.means - centres[levels]) ** 2).sum()) / df)

    @property
    def all_equal(self) -> bool:
        """Whether all candidates of a level have the same result, but for rounding."""
        return self.spread is not None and self.spread <= _rounding(self.means)

    @property
    def noise_variance(self) -> float | None:
        """Variance of a mean due to the seeds, averaged over the candidates."""
        return None if self.error_variance is None else self.error_variance * float((1 / self.counts).mean())

    @property
    def intraclass(self) -> float | None:
        """Part of the variance of single runs that is due to the candidates; None without an error or a spread."""
        if self.error_variance is None or self.noise_variance is None or self.spread is None:
            return None
        between = max(self.spread**2 - self.noise_variance, 0.0)
        total = between + self.error_variance
        return between / total if total > 0 else 0.0


def finished_runs(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The runs in `trials` (`tables.TRIAL_COLUMNS`) that count: the latest of each seed, for candidates that finished.

    A candidate failed if its latest trial failed, or one that no later trial of its first seed made good
    (`results.records.merged_records`).
    """
    bad = trials["status"].ne(DONE)
    latest_bad = trials[bad].groupby("candidate")["trial"].max()
    whole = trials[~bad & trials["seed"].eq(0)].groupby("candidate")["trial"].max()
    failed = latest_bad.index[latest_bad > whole.reindex(latest_bad.index, fill_value=-1)]
    counts = trials["status"].eq(DONE) & np.isfinite(trials[metric]) & ~trials["candidate"].isin(failed)
    finished: pd.DataFrame = trials[counts].drop_duplicates(["candidate", "seed"], keep="last")
    return finished


def two_way(runs: pd.DataFrame, metric: str) -> TwoWay:
    """The two-way model of `runs` by least squares; each level φ has separate seed effects.

    The candidates are swept out, so that only seeds are columns of the system.
    """
    # Codes of candidates and of seeds within levels.
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

    # The seeds' effects, and the candidates' means without them.
    swept = within(indicators)
    effects, _, rank, _ = np.linalg.lstsq(swept, within(y[:, None])[:, 0], rcond=1e-10)
    adjusted = y - indicators @ (effects - effects.mean()) if len(seeds) else y
    means = np.bincount(candidate, adjusted, minlength=candidates) / counts

    # The error, and the test of the candidates against a model with seeds only.
    error_df, df = len(y) - candidates - int(rank), candidates + int(rank) - len(seeds)
    known = (tuple(map(int, numbers)), phi, means, counts, int(runs["seed"].nunique()))
    if error_df < 1 or df < 1:
        return TwoWay(*known, None, 0, None, None)
    error_ss = float(((adjusted - means[candidate]) ** 2).sum())
    by_seed = np.bincount(seed, y) / np.bincount(seed)
    f, p = f_test(float(((y - by_seed[seed]) ** 2).sum()), error_ss, df, error_df)
    return TwoWay(*known, error_ss / error_df, error_df, f if math.isfinite(f) else None, p)


def compare(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The finished candidates in `trials` (`tables.TRIAL_COLUMNS`), by number.

    `chance` is the chance of being the best of its level, `tied` whether the seeds cannot distinguish the candidate
    from the best at 95 %. With one seed each the noise is unknown: chances are missing and all are tied. Without noise
    the best candidates share the chance. Raises `ValueError` for an unknown metric.
    """
    model = two_way(finished_runs(trials, metric), metric)
    losses = -model.means if metric_of(metric).maximise else model.means
    chance, tied = np.full(len(losses), np.nan), np.ones(len(losses), bool)
    if model.error_variance is not None:
        error = math.sqrt(model.error_variance)
        for phi in np.unique(model.phi):
            level = model.phi == phi
            chance[level], tied[level] = _compare_level(losses[level], error, model.counts[level], model.error_df)
    return pd.DataFrame({"chance": chance, "tied": tied}, index=pd.Index(model.candidates, name="candidate"))


def is_beaten(model: TwoWay, number: int, metric: str) -> bool | None:
    """Whether a candidate of the same level is better than candidate `number` beyond seed noise; None if unknown."""
    if model.error_variance is None:
        return None
    level = model.phi == model.phi[model.candidates.index(number)]
    place = [each for each, same in zip(model.candidates, level.tolist(), strict=True) if same].index(number)
    losses = model.means[level] * (-1 if metric_of(metric).maximise else 1)
    error, rounding = math.sqrt(model.error_variance), _rounding(losses)
    if error <= rounding:
        return bool(losses[place] > losses.min() + rounding)
    return not _tied(losses, error, model.counts[level], model.error_df, (place,))[place]


def _rounding(losses: FloatArray) -> float:
    return _ROUNDING * float(np.abs(losses).max())


def _compare_level(
    losses: FloatArray, error: float, counts: FloatArray, df: int
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Chances and the tied set (K,) of the candidates of a level; `error` is the standard deviation of a run."""
    rounding = _rounding(losses)
    if error <= rounding:
        best = losses <= losses.min() + rounding
        return best / best.sum(), best
    return _chances(losses, error / np.sqrt(counts), df), _tied(losses, error, counts, df)


def _chances(losses: FloatArray, errors: FloatArray, df: int) -> FloatArray:
    """How often each mean (K,) is the least if all are drawn with their standard errors (parametric bootstrap)."""
    contenders = losses.argsort(kind="stable")[:CONTENDERS]
    random = np.random.default_rng(0)
    scale = np.sqrt(df / random.chisquare(df, (DRAWS, 1)))
    drawn = losses[contenders] + scale * errors[contenders] * random.standard_normal((DRAWS, len(contenders)))
    chance = np.zeros(len(losses))
    chance[contenders] = np.bincount(drawn.argmin(axis=1), minlength=len(contenders)) / DRAWS
    return chance


def _tied(
    losses: FloatArray, error: float, counts: FloatArray, df: int, asked: Sequence[int] | None = None
) -> NDArray[np.bool_]:
    """Which candidates (K,) may be the best: they include the truly best with confidence `LEVEL`.

    Only the places `asked` for are judged, by default all.

    Multiple comparisons with the best: a candidate is excluded if it is too far behind any other.
    Source: Hsu, "Multiple Comparisons", 1996, §4.1.
    """
    if len(losses) < 2:
        return np.ones(len(losses), bool)
    tied = np.zeros(len(losses), bool)
    sizes, members = np.unique(counts, return_counts=True)
    wanted = np.arange(len(losses)) if asked is None else np.array(asked)
    for size in np.unique(counts[wanted]).tolist():
        others = members - (sizes == size)
        bound = critical_value(size, sizes, others, df) * error
        for place in wanted[counts[wanted] == size].tolist():
            behind = (losses[place] - losses) / np.sqrt(1 / size + 1 / counts)
            tied[place] = behind.max() <= bound
    return tied


def critical_value(size: float, sizes: FloatArray, others: NDArray[np.int_], df: int) -> float:
    """Dunnett's one-sided critical value c at `LEVEL`: P(max over j of (zᵢ/√nᵢ − zⱼ/√nⱼ) ÷ √(1/nᵢ + 1/nⱼ) ≤ c·χ).

    A candidate with `size` runs is compared with `others` (S,) candidates of each of the `sizes` (S,). The z are
    standard normal, χ² is chi-square with `df` degrees of freedom ÷ `df`. By quadrature over zᵢ and χ.
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
