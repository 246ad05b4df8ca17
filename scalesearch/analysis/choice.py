"""The choice of a rule: which shares are best, what that rests on, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from scalesearch.analysis.comparison import TwoWay, finished_runs, two_way
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.optimum import Optimum, describe, optimum
from scalesearch.analysis.region import Region, confidence_region, in_region
from scalesearch.analysis.signal import SIGNIFICANT, Signal, lack_of_fit, signal_of
from scalesearch.analysis.surfaces.base import LINEAR, FloatArray, InsufficientTrials, Surface
from scalesearch.analysis.surfaces.polynomial import fit_surface
from scalesearch.analysis.tables import finished_candidates
from scalesearch.results.records import DONE, PRUNED
from scalesearch.runtime.text import plural
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.family import ScalingRule
from scalesearch.scaling.simplex import FAR, NAMES, Shares
from scalesearch.study.sections import Study

# Above this p of the lack of fit the surface's error and the seeds' are taken for one and pooled: more degrees of
# freedom. Source: Bancroft, "Analysis and inference for incompletely specified models", Biometrics 20 (1964).
POOLED = 0.25
# A Gaussian process has three parameters to find, five candidates each; with more than these it takes seconds.
PROCESS_LEAST, PROCESS_MOST = 15, 300
# So many candidates, the most influential, are left out to see whether one of them decides the choice.
LEFT_OUT_IN_TURN = 3
# So many places of a region that falls apart are told one by one.
MOST_TOLD = 3
# So many points of a region are written into coefficients.json.
MOST_POINTS = 500
# Distance in shares below which two choices are the same in practice.
SAME = 0.05


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
    surface: Surface | None
    optimum: Optimum | None
    region: Region | None
    tied: tuple[Mapping[str, Any], ...]

    @property
    def maximise(self) -> bool:
        """Whether more of the metric is better."""
        return metric_of(self.signal.metric).maximise

    def may_be_optimum(self, shares: FloatArray) -> np.ndarray:
        """Which of `shares` (N, 3) the confidence region holds; all of them where no surface says anything."""
        if self.surface is None:
            return np.ones(len(shares), bool)
        return np.asarray(in_region(self.surface, shares, self.maximise))


def choose(trials: pd.DataFrame, candidates: pd.DataFrame, budget: float, metric: str) -> Choice:
    """The shares at the optimum of the surface or, where none can be fitted, those of the best candidate.

    Both tables are those of one run. Raises `InsufficientTrials` where no candidate finished, `ValueError` for an
    unknown metric.
    """
    with threadpool_limits(1, user_api="blas"):  # matrices are small: on busy cores more threads wait for one another
        return _choose(trials, candidates, budget, metric)


def _choose(trials: pd.DataFrame, candidates: pd.DataFrame, budget: float, metric: str) -> Choice:
    maximise = metric_of(metric).maximise
    runs = finished_runs(trials, metric)
    model, seeds = two_way(runs, metric), int(runs["seed"].nunique())
    finished = finished_candidates(candidates, metric)
    tied = tuple(_tied_json(row) for row in finished[finished["tied"]].to_dict("records"))
    if finished.empty:
        raise InsufficientTrials(
            f"a rule needs at least one finished candidate, but none of {len(candidates)} finished"
        )
    first = finished[finished["phi"].eq(finished["phi"].min())]
    values = first[metric].to_numpy(float)
    best = first.iloc[int(values.argmax() if maximise else values.argmin())]
    shares = np.array([best[f"{name}_share"] for name in NAMES], float)
    basis = f"The shares of the best of {plural(len(finished), 'candidate')}, because"
    try:
        fitted = _fitted(candidates, budget, metric, model)
        _check_pruned(fitted, candidates, maximise)
    except InsufficientTrials as error:
        judged = signal_of(model, seeds, metric, why=str(error))
        told = (f"{basis} {error}.", _certainty(None, budget, len(tied), len(finished)))
        return Choice(Shares(*shares.tolist()), describe(shares), *told, judged, None, None, None, tied)
    lack_of_fit_p = lack_of_fit(fitted, model)
    surface = fitted if lack_of_fit_p is None or lack_of_fit_p <= POOLED else _pooled(fitted, model)
    point = optimum(surface, maximise)
    region = confidence_region(surface, point, maximise)
    judged = signal_of(model, seeds, metric, surface, region, lack_of_fit_p)
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
    basis += _decided(surface, point, finished, maximise)
    if surface.levels_p is not None and surface.levels_p < SIGNIFICANT:
        basis += f" The levels of the budget contradict each other (p = {surface.levels_p:.2g}): no rule fits them all."
    return Choice(point.shares, point.where, basis, certainty, judged, surface, point, region, tied)


def _certainty(region: Region | None, budget: float, tied: int, finished: int) -> str:
    told = f"By their seeds alone {tied} of {plural(finished, 'candidate')} cannot be told from the best."
    if region is None:
        return told
    bounds = ", ".join(
        f"{letter} {low:.3f} to {high:.3f}"
        for letter, (low, high) in zip("αβγ", region.intervals(budget).values(), strict=True)
    )
    pieces = "" if len(region.places) == 1 else f", in {len(region.places)} places"
    if 1 < len(region.places) <= MOST_TOLD:
        pieces += f": best at {'; '.join(_told(place) for place in region.places.tolist())}"
    part = f"{region.part_text} of the triangle{pieces}"
    return f"With {region.level:.0%} confidence, as far as the surface holds, {bounds} ({part}). {told}"


def _tied_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    chance = float(row["chance"])
    return {
        "depths": [int(size) for size in row["depths"].split()],
        "widths": [int(size) for size in row["widths"].split()],
        "resolution": int(row["resolution"]),
        "shares": {name: float(row[f"{name}_share"]) for name in NAMES},
        "chance": chance if np.isfinite(chance) else None,
    }


def _fitted(candidates: pd.DataFrame, budget: float, metric: str, model: TwoWay) -> Surface:
    """A polynomial or, where candidates deviate from it by more than the seeds' noise, perhaps a Gaussian process.

    Raises `InsufficientTrials` where there are too few candidates for a surface that may be best inside the triangle.
    """
    fit = fit_surface(candidates, budget, metric)
    if fit.model == LINEAR:
        raise InsufficientTrials(f"{fit.model_note} (a linear surface is best in a corner, whatever the trials say)")
    p = lack_of_fit(fit, model)
    if p is None or p >= SIGNIFICANT or model.error_variance is None or fit.n < PROCESS_LEAST:
        return fit
    if fit.n > PROCESS_MOST:
        return replace(fit, model_note=f"a Gaussian process is not tried with more than {PROCESS_MOST} candidates")
    from scalesearch.analysis.surfaces.process import contender  # scikit-learn is for those who need it

    return contender(fit, candidates, model.error_variance)


def _check_pruned(surface: Surface, candidates: pd.DataFrame, maximise: bool) -> None:
    """Raises `InsufficientTrials` where the surface is best next to a candidate that was pruned.

    Those that finish crowd around the best of all; far from them nothing holds the surface.
    """
    known = candidates[candidates["status"].isin((DONE, PRUNED))]
    if known["status"].eq(DONE).all():
        return
    best = optimum(surface, maximise).shares.values
    apart = np.linalg.norm(known[[f"{name}_share" for name in NAMES]].to_numpy(float) - best, axis=1)
    if known["status"].iloc[int(apart.argmin())] == PRUNED:
        raise InsufficientTrials(f"the {surface.model} surface is best at {_told(best)}, next to a pruned candidate")


def _pooled(surface: Surface, model: TwoWay) -> Surface:
    """The surface with its residual variance and the seeds' pooled."""
    if model.error_variance is None or surface.residual_sd == 0:
        return surface
    df = surface.residual_df + model.error_df
    total = surface.residual_sd**2 * surface.residual_df + model.error_variance * model.error_df
    return surface.with_error(total / df, df)


def _decided(surface: Surface, point: Optimum, finished: pd.DataFrame, maximise: bool) -> str:
    """A sentence where leaving out one of the most influential candidates moves the optimum far, out of the region."""
    for place in np.argsort(surface.influence)[::-1][:LEFT_OUT_IN_TURN].tolist():
        other = optimum(surface.without(place), maximise).shares
        far = math.dist(other.values, point.shares.values) > SAME
        if far and not in_region(surface, np.array([other.values]), maximise)[0]:
            own = finished.iloc[place]
            return (
                f" Candidate {own['candidate']} ({_told(own[f'{name}_share'] for name in NAMES)}) decides the choice:"
                f" without it the optimum would be {_told(other.values)}, outside the confidence region."
            )
    return ""


def _told(shares: Iterable[float]) -> str:
    return ", ".join(f"{name} {share:.2f}" for name, share in zip(NAMES, shares, strict=True))


def _extrapolation(chosen: Shares, finished: pd.DataFrame) -> str:
    """A sentence where no finished candidate is near the choice: the surface alone speaks for it."""
    shares = finished[[f"{name}_share" for name in NAMES]].to_numpy(float)
    nearest = float(np.linalg.norm(shares - np.array(chosen.values), axis=1).min())
    if nearest <= FAR:
        return ""
    return f" No trained candidate is near it (the nearest is {nearest:.2f} away in shares): an extrapolation."


def rule_of(choice: Choice, study: Study, provenance: Mapping[str, Any]) -> ScalingRule:
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
    """`level`, intervals of α, β and γ, the region's part of the triangle, places and points, regret and range."""
    if region is None:
        return None
    bounds = {name: list(bound) for name, bound in region.intervals(budget).items()}
    return {
        "level": region.level,
        **bounds,
        "region": region.part,
        "places": region.places.tolist(),
        "points": _thinned(region.points).tolist(),
        "regret": region.regret,
        "range": region.range,
    }


def _thinned(points: FloatArray) -> FloatArray:
    """At most `MOST_POINTS` of `points` (M, 3), in even steps, to four digits."""
    steps = np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).round().astype(int)
    return np.asarray(points[steps].round(4))
