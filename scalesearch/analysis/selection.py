"""The choice of a rule: is there signal beyond the seeds' noise, and which shares are best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.surface import (
    NAMES,
    InsufficientTrials,
    Optimum,
    SurfaceFit,
    describe,
    f_test,
    fit_surface,
    optimum,
)
from scalesearch.config import StudyConfig
from scalesearch.records import DONE
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.family import ScalingRule
from scalesearch.scaling.simplex import Shares

SIGNIFICANT = 0.05
# Distance in shares beyond which a choice is an extrapolation: half the spacing of the {3, 5} lattice, √2 ÷ 10.
FAR = 0.15


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
class Signal(Variance):
    """How far candidates differ, against what the seeds alone would make them differ. Units are the metric's.

    `spread`: sd between candidate means. `seed_sd`: sd of one seed's result within a candidate, after the
    seed's effect on all candidates is removed. `noise`: what that makes of a candidate mean. `f`, `p`: do
    candidates differ beyond it? `intraclass`: part of the variance of single results that is the
    candidates'. `surface_p`: does the surface explain more than a constant? None where it cannot be judged;
    `f` also where the seeds leave no noise at all and F has no bound. `resolved` needs both p below `SIGNIFICANT`.
    """

    metric: str
    candidates: int
    seeds: int
    surface_p: float | None
    resolved: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen shares, and what they rest on; `basis` says it in a sentence.

    `surface` and `optimum` are None where no surface could be fitted.
    """

    shares: Shares
    where: str
    basis: str
    signal: Signal
    surface: SurfaceFit | None
    optimum: Optimum | None


def signal(trials: pd.DataFrame, metric: str) -> Signal:
    """The signal in `trials` (`tables.TRIAL_COLUMNS`), of which finished trials count, the latest of a network.

    Two-way additive model y = candidate + seed + error: all candidates see the same seeds, so what a seed
    does to all of them is no noise in their comparison. Raises `ValueError` for an unknown metric.
    """
    label = metric_of(metric).label
    runs = trials[trials["trial"].eq(trials.groupby("candidate")["trial"].transform("max"))]
    runs = runs[runs["status"].eq(DONE) & np.isfinite(runs[metric])]
    variance = _two_way(runs, metric)
    surface_p, why = None, ""
    try:
        surface_p = fit_surface(_means(runs, metric), 1.0, metric).p
    except InsufficientTrials as error:
        why = str(error)
    differ = variance.p is not None and variance.p < SIGNIFICANT
    explained = surface_p is not None and surface_p < SIGNIFICANT
    return Signal(
        **dataclasses.asdict(variance),
        metric=metric,
        candidates=int(runs["candidate"].nunique()),
        seeds=int(runs["seed"].nunique()),
        surface_p=surface_p,
        resolved=differ and explained,
        verdict=_verdict(variance, surface_p, why, label),
    )


def _verdict(variance: Variance, surface_p: float | None, why: str, label: str) -> str:
    if variance.spread is None:
        return "Not resolved: fewer than two candidates finished."
    if variance.p is None or variance.noise is None:
        return (
            f"Not resolved: candidates spread over {variance.spread:.3g} ({label}, sd), but with one seed each "
            "this cannot be told from noise; run at least two seeds."
        )
    f = "" if variance.f is None else f"F = {variance.f:.3g}, "
    against = (
        f"candidates spread over {variance.spread:.3g} ({label}, sd) against {variance.noise:.3g} "
        f"of seed noise in a mean ({f}p = {variance.p:.2g})"
    )
    if variance.p >= SIGNIFICANT:
        return f"Not resolved: {against}; run more seeds or a longer schedule."
    if surface_p is None:
        return f"Not resolved: {against}, but {why}."
    if surface_p >= SIGNIFICANT:
        return f"Not resolved: {against}, but the split of the budget does not explain it (p = {surface_p:.2g})."
    return f"Resolved: {against}, and the split of the budget explains it (p = {surface_p:.2g})."


def _two_way(runs: pd.DataFrame, metric: str) -> Variance:
    """Least squares of candidate + seed; candidates are swept out, so that only the seeds are columns."""
    candidate, _ = pd.factorize(runs["candidate"])
    seed, seeds = pd.factorize(runs["seed"])
    candidates = int(candidate.max()) + 1 if len(candidate) else 0
    if candidates < 2:
        return Variance(None, None, None, None, None, None)
    y = runs[metric].to_numpy(float)
    counts = np.bincount(candidate)
    indicators = np.eye(len(seeds))[seed]

    def within(values: np.ndarray) -> np.ndarray:
        sums = np.zeros((candidates, values.shape[1]))
        np.add.at(sums, candidate, values)
        return values - (sums / counts[:, None])[candidate]

    swept = within(indicators)
    effects, _, rank, _ = np.linalg.lstsq(swept, within(y[:, None])[:, 0], rcond=1e-10)
    adjusted = y - indicators @ (effects - effects.mean())
    means = np.bincount(candidate, adjusted) / counts
    spread = float(means.std(ddof=1))
    residual_df = len(y) - candidates - int(rank)
    df = candidates + int(rank) - len(seeds)
    if residual_df < 1 or df < 1:
        return Variance(spread, None, None, None, None, None)
    residual_ss = float(((adjusted - means[candidate]) ** 2).sum())
    by_seed = np.bincount(seed, y) / np.bincount(seed)
    f, p = f_test(float(((y - by_seed[seed]) ** 2).sum()), residual_ss, df, residual_df)
    seed_variance = residual_ss / residual_df
    noise_variance = seed_variance / _harmonic_mean(counts)
    own = max(spread**2 - noise_variance, 0.0)
    total = own + seed_variance
    return Variance(
        spread=spread,
        seed_sd=math.sqrt(seed_variance),
        noise=math.sqrt(noise_variance),
        f=f if math.isfinite(f) else None,
        p=p,
        intraclass=own / total if total > 0 else 0.0,
    )


def _harmonic_mean(counts: np.ndarray) -> float:
    return float(len(counts) / (1 / counts).sum())


def _means(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What `fit_surface` needs of a candidates' table, from the runs."""
    groups = runs.groupby("candidate")
    table = groups[[*(f"{name}_share" for name in NAMES), "macs_ratio", "status"]].first()
    return table.assign(seeds=groups.size(), **{metric: groups[metric].mean()})


def choose(trials: pd.DataFrame, candidates: pd.DataFrame, budget: float, metric: str) -> Choice:
    """The shares at the optimum of the surface or, where none can be fitted, those of the best candidate.

    Raises `InsufficientTrials` where no candidate finished.
    """
    judged = signal(trials, metric)
    maximise = metric_of(metric).maximise
    try:
        surface = fit_surface(candidates, budget, metric)
    except InsufficientTrials as error:
        finished = candidates[candidates["status"].eq(DONE) & np.isfinite(candidates[metric])]
        if finished.empty:
            raise InsufficientTrials(
                f"a rule needs at least one finished candidate, but none of {len(candidates)} finished"
            ) from error
        values = finished[metric]
        best = finished.loc[values.idxmax() if maximise else values.idxmin()]
        shares = np.array([best[f"{name}_share"] for name in NAMES], float)
        basis = f"The shares of the best of {len(finished)} candidates, because {error}."
        return Choice(Shares(*shares.tolist()), describe(shares), basis, judged, None, None)
    best_point = optimum(surface, maximise)
    basis = (
        f"The optimum ({best_point.where}) of a {surface.model} surface over {surface.n} candidates"
        f" (adjusted R² {surface.adjusted_r2:.2f}).{_extrapolation(best_point.shares, candidates)}"
    )
    return Choice(best_point.shares, best_point.where, basis, judged, surface, best_point)


def _extrapolation(chosen: Shares, candidates: pd.DataFrame) -> str:
    """A sentence where no finished candidate is near the choice: the surface alone speaks for it."""
    finished = candidates[candidates["status"].eq(DONE)]
    shares = finished[[f"{name}_share" for name in NAMES]].to_numpy(float)
    nearest = float(np.linalg.norm(shares - np.array(chosen.values), axis=1).min())
    if nearest <= FAR:
        return ""
    return f" No trained candidate is near it (the nearest is {nearest:.2f} away in shares): an extrapolation."


def rule_of(choice: Choice, study: StudyConfig, provenance: Mapping[str, Any]) -> ScalingRule:
    """The rule that states `choice` for `study`; its `basis` is added to `provenance`."""
    coefficients = coefficients_of(choice.shares, study.budget)
    return ScalingRule(
        budget=study.budget,
        alpha=coefficients.alpha,
        beta=coefficients.beta,
        gamma=coefficients.gamma,
        shares=choice.shares,
        intervals=None,
        resolved=choice.signal.resolved,
        tied=None,
        metric=study.metric,
        baseline=study.resolved_baseline(),
        data=study.data.model_dump(mode="json"),
        training=study.training.model_dump(mode="json"),
        seeds=study.seeds,
        provenance={**provenance, "basis": choice.basis},
    )
