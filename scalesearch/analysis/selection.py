"""The choice of a rule: which shares are best, how sure that is, and is there signal beyond the seeds' noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution

from scalesearch.analysis.comparison import TwoWay, Variance, finished_runs, two_way
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.optimum import Optimum, describe, optimum
from scalesearch.analysis.region import Region, confidence_region, in_region
from scalesearch.analysis.surface import NAMES, FloatArray, InsufficientTrials, SurfaceFit, fit_surface
from scalesearch.config import StudyConfig
from scalesearch.records import DONE
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.family import ScalingRule
from scalesearch.scaling.markup import markup
from scalesearch.scaling.simplex import Shares

SIGNIFICANT = 0.05
# A choice is resolved only if its region leaves out at least this part of the triangle.
LEFT_OUT = 0.5
# Above this p of the lack of fit the surface's error and the seeds' are taken for one and pooled: more degrees of
# freedom. Source: Bancroft, "Analysis and inference for incompletely specified models", Biometrics 20 (1964).
POOLED = 0.25
# Distance in shares beyond which a choice is an extrapolation: half the spacing of the {3, 5} lattice, √2 ÷ 10.
FAR = 0.15


@dataclass(frozen=True, slots=True)
class Signal(Variance):
    """How far candidates differ, against what the seeds alone would make them differ. Units are the metric's.

    `spread`: sd between candidate means. `seed_sd`: sd of one seed's result within a candidate, after the
    seed's effect on all candidates is removed. `noise`: what that makes of a candidate mean. `f`, `p`: do
    candidates differ beyond it? `intraclass`: part of the variance of single results that is the
    candidates'. `surface_p`: does the surface explain more than a constant? `lack_of_fit_p`: do candidates deviate
    from it by more than the seeds' noise? None where it cannot be judged; `f` also where the seeds leave no noise at
    all and F has no bound. `region`: part of the triangle where the optimum may lie. `resolved` needs `p` and
    `surface_p` below `SIGNIFICANT` and at least `LEFT_OUT` of the triangle outside the region.
    """

    metric: str
    candidates: int
    seeds: int
    surface_p: float | None
    lack_of_fit_p: float | None
    region: float | None
    resolved: bool
    verdict: str

    def _repr_html_(self) -> str:
        rows = (
            ("spread of the candidates (sd)", self.spread, ".4g"),
            ("noise of a candidate's mean (sd)", self.noise, ".4g"),
            ("p, were all candidates alike", self.p, ".2g"),
            ("p, were the shares without effect", self.surface_p, ".2g"),
            ("p, were the surface the whole truth", self.lack_of_fit_p, ".2g"),
            ("part of the triangle that may be best", self.region, ".1%"),
        )
        cells = ((name, "unknown" if value is None else format(value, form)) for name, value, form in rows)
        return markup(f"Signal: {self.metric}, {self.candidates} candidates", (), cells, self.verdict)


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen shares, what they rest on (`basis`, a sentence) and how sure they are (`certainty`, sentences).

    `surface` has the error that the region has: pooled with the seeds' where there is no lack of fit.
    `surface`, `optimum` and `region` are None where no surface could be fitted. `tied` are the candidates that
    the seeds cannot tell from the best, as JSON objects, best first.
    """

    shares: Shares
    where: str
    basis: str
    certainty: str
    signal: Signal
    surface: SurfaceFit | None
    optimum: Optimum | None
    region: Region | None
    tied: tuple[Mapping[str, Any], ...]

    def _repr_html_(self) -> str:
        rows = [("chosen", *(f"{share:.0%}" for share in self.shares.values))]
        if self.region is not None:
            bounds = (f"{low:.0%} to {high:.0%}" for low, high in zip(self.region.low, self.region.high, strict=True))
            rows.append((f"with {self.region.level:.0%} confidence", *bounds))
        told = (self.signal.verdict, self.basis, self.certainty)
        return markup(f"Choice ({self.where})", ("share of the budget", *NAMES), rows, *told)

    @property
    def maximise(self) -> bool:
        """Whether more of the metric is better."""
        return metric_of(self.signal.metric).maximise

    def may_be_optimum(self, shares: FloatArray) -> np.ndarray:
        """Which of `shares` (N, 3) the confidence region holds; all of them where no surface says anything."""
        if self.surface is None or self.optimum is None:
            return np.ones(len(shares), bool)
        return np.asarray(in_region(self.surface, self.optimum, shares, self.maximise))


def choose(trials: pd.DataFrame, candidates: pd.DataFrame, budget: float, metric: str) -> Choice:
    """The shares at the optimum of the surface or, where none can be fitted, those of the best candidate.

    Both tables are those of one run. Raises `InsufficientTrials` where no candidate finished, `ValueError` for an
    unknown metric.
    """
    maximise = metric_of(metric).maximise
    runs = finished_runs(trials, metric)
    model, seeds = two_way(runs, metric), int(runs["seed"].nunique())
    finished = candidates[candidates["status"].eq(DONE) & np.isfinite(candidates[metric])]
    tied = tuple(_tied_json(row) for row in finished[finished["tied"]].to_dict("records"))
    if finished.empty:
        raise InsufficientTrials(
            f"a rule needs at least one finished candidate, but none of {len(candidates)} finished"
        )
    values = finished.loc[finished["phi"].eq(finished["phi"].min()), metric]
    best = finished.loc[values.idxmax() if maximise else values.idxmin(), [f"{name}_share" for name in NAMES]]
    shares = best.to_numpy(float)
    basis = f"The shares of the best of {len(finished)} candidates, because"
    try:
        fitted = fit_surface(candidates, budget, metric)
    except InsufficientTrials as error:
        judged = _signal(model, seeds, metric, None, None, str(error))
        told = (f"{basis} {error}.", _certainty(None, budget, len(tied), len(finished)))
        return Choice(Shares(*shares.tolist()), describe(shares), *told, judged, None, None, None, tied)
    surface = _pooled(fitted, model)
    point = optimum(surface, maximise)
    region = confidence_region(surface, point, maximise)
    judged = _signal(model, seeds, metric, fitted, region, "")
    certainty = _certainty(region, budget, len(tied), len(finished))
    if surface.adjusted_r2 <= 0:
        basis += f" the {surface.model} surface explains nothing (adjusted R² {surface.adjusted_r2:.2f})."
        return Choice(
            Shares(*shares.tolist()), describe(shares), basis, certainty, judged, surface, point, region, tied
        )
    basis = (
        f"The optimum ({point.where}) of a {surface.model} surface over {surface.n} candidates"
        f" (adjusted R² {surface.adjusted_r2:.2f}).{_extrapolation(point.shares, finished)}"
    )
    if judged.lack_of_fit_p is not None and judged.lack_of_fit_p < SIGNIFICANT:
        basis += f" Candidates deviate from it by more than the seeds' noise (p = {judged.lack_of_fit_p:.2g})."
    if surface.levels_p is not None and surface.levels_p < SIGNIFICANT:
        basis += f" The levels of the budget contradict each other (p = {surface.levels_p:.2g}): no rule fits them all."
    return Choice(point.shares, point.where, basis, certainty, judged, surface, point, region, tied)


def _certainty(region: Region | None, budget: float, tied: int, finished: int) -> str:
    told = f"{tied} of {finished} candidates cannot be told from the best by their seeds."
    if region is None:
        return told
    bounds = ", ".join(
        f"{letter} {low:.3f} to {high:.3f}"
        for letter, (low, high) in zip("αβγ", region.intervals(budget).values(), strict=True)
    )
    return f"With {region.level:.0%} confidence {bounds} ({region.part:.1%} of the triangle). {told}"


def _tied_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    chance = float(row["chance"])
    return {
        "depths": [int(size) for size in row["depths"].split()],
        "widths": [int(size) for size in row["widths"].split()],
        "resolution": int(row["resolution"]),
        "shares": {name: float(row[f"{name}_share"]) for name in NAMES},
        "chance": chance if np.isfinite(chance) else None,
    }


def _signal(
    model: TwoWay, seeds: int, metric: str, surface: SurfaceFit | None, region: Region | None, why: str
) -> Signal:
    variance = model.variance()
    surface_p = None if surface is None else surface.p
    part = None if region is None else region.part
    differ = variance.p is not None and variance.p < SIGNIFICANT
    explained = surface_p is not None and surface_p < SIGNIFICANT
    return Signal(
        **dataclasses.asdict(variance),
        metric=metric,
        candidates=len(model.candidates),
        seeds=seeds,
        surface_p=surface_p,
        lack_of_fit_p=_lack_of_fit(surface, model),
        region=part,
        resolved=differ and explained and part is not None and part <= 1 - LEFT_OUT,
        verdict=_verdict(variance, surface_p, part, why, metric_of(metric).label),
    )


def _pooled(surface: SurfaceFit, model: TwoWay) -> SurfaceFit:
    """The surface with its residual variance and the seeds' pooled, where nothing speaks against that."""
    p = _lack_of_fit(surface, model)
    if p is None or p <= POOLED or model.error_variance is None or surface.residual_sd == 0:
        return surface
    df = surface.residual_df + model.error_df
    total = surface.residual_sd**2 * surface.residual_df + model.error_variance * model.error_df
    return surface.with_error(total / df, df)


def _lack_of_fit(surface: SurfaceFit | None, model: TwoWay) -> float | None:
    """P of the surface's residual variance against the seeds' (pure error), both those of one run."""
    if surface is None or not model.error_variance:
        return None
    f = surface.residual_sd**2 / model.error_variance
    return float(f_distribution.sf(f, surface.residual_df, model.error_df))


def _verdict(variance: Variance, surface_p: float | None, part: float | None, why: str, label: str) -> str:
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
    if part is not None and part > 1 - LEFT_OUT:
        return f"Not resolved: {against}, but the best split may lie in {part:.0%} of the triangle."
    where = (
        f"the best one lies in {part:.0%} of the triangle" if part and part >= 0.005 else "the best one is well located"
    )
    return f"Resolved: {against}, and the split of the budget explains it (p = {surface_p:.2g}); {where}."


def _extrapolation(chosen: Shares, finished: pd.DataFrame) -> str:
    """A sentence where no finished candidate is near the choice: the surface alone speaks for it."""
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
        intervals=_intervals_json(choice.region, study.budget),
        resolved=choice.signal.resolved,
        tied=choice.tied,
        metric=study.metric,
        baseline=study.resolved_baseline(),
        data=study.data.model_dump(mode="json"),
        training=study.training.model_dump(mode="json"),
        seeds=study.seeds,
        provenance={**provenance, "basis": choice.basis},
    )


def _intervals_json(region: Region | None, budget: float) -> dict[str, Any] | None:
    """`level`, the intervals of α, β and γ, and the part of the triangle that the region covers."""
    if region is None:
        return None
    bounds = {name: list(bound) for name, bound in region.intervals(budget).items()}
    return {"level": region.level, **bounds, "region": region.part}
