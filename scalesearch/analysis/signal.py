"""Is there a signal: do candidates differ beyond the seeds' noise, and do their shares explain it?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from scipy.stats import f as f_distribution

from scalesearch.analysis.comparison import TwoWay, Variance
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.region import Region
from scalesearch.analysis.surfaces.base import Surface

SIGNIFICANT = 0.05
# A choice is resolved only if it loses at most this part of what lies between the best and the worst split.
AT_STAKE = 0.5


@dataclass(frozen=True, slots=True)
class Signal(Variance):
    """How far candidates differ, against what the seeds alone would make them differ. Units are the metric's.

    `spread`: sd between candidate means. `seed_sd`: sd of one seed's result within a candidate, after the
    seed's effect on all candidates is removed. `noise`: what that makes of a candidate mean. `f`, `p`: do
    candidates differ beyond it? `intraclass`: part of the variance of single results that is the
    candidates'. `surface_p`: does the surface explain more than a constant? `lack_of_fit_p`: do candidates deviate
    from it by more than the seeds' noise? None where it cannot be judged; `f` also where the seeds leave no noise at
    all and F has no bound. `region`: part of the triangle where the optimum may lie; `regret`: the most that the
    surface's optimum loses to another split; `range`: how far the surface's best and worst splits are apart.
    `resolved` needs `p` and `surface_p` below `SIGNIFICANT` and a regret of at most `AT_STAKE` of the range.
    """

    metric: str
    candidates: int
    seeds: int
    surface_p: float | None
    lack_of_fit_p: float | None
    region: float | None
    regret: float | None
    range: float | None
    resolved: bool
    verdict: str


def signal_of(
    model: TwoWay,
    seeds: int,
    metric: str,
    surface: Surface | None = None,
    region: Region | None = None,
    lack_of_fit_p: float | None = None,
    why: str = "",
) -> Signal:
    """What the two-way `model` over so many `seeds`, the surface and its region say; `why` there is no surface.

    `surface` has the error that its region has; `lack_of_fit_p` is that of its own.
    """
    variance = model.variance()
    surface_p = None if surface is None else surface.p
    differ = variance.p is not None and variance.p < SIGNIFICANT
    explained = surface_p is not None and surface_p < SIGNIFICANT
    return Signal(
        **dataclasses.asdict(variance),
        metric=metric,
        candidates=len(model.candidates),
        seeds=seeds,
        surface_p=surface_p,
        lack_of_fit_p=lack_of_fit_p,
        region=None if region is None else region.part,
        regret=None if region is None else region.regret,
        range=None if region is None else region.range,
        resolved=differ and explained and region is not None and region.regret <= AT_STAKE * region.range,
        verdict=_verdict(variance, surface, region, why, metric_of(metric).label),
    )


def lack_of_fit(surface: Surface, model: TwoWay) -> float | None:
    """P of the surface's residual variance against the seeds' (pure error), both those of one run."""
    if not model.error_variance:
        return None
    f = surface.residual_sd**2 / model.error_variance
    return float(f_distribution.sf(f, surface.residual_df, model.error_df))


def _verdict(variance: Variance, surface: Surface | None, region: Region | None, why: str, label: str) -> str:
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
    if surface is None or region is None:
        return f"Not resolved: {against}, but {why}."
    if surface.p >= SIGNIFICANT:
        return f"Not resolved: {against}, but the split of the budget does not explain it (p = {surface.p:.2g})."
    lost = f"{region.regret:.3g}, {region.regret / region.range:.0%} of what lies between the best and the worst"
    if region.regret > AT_STAKE * region.range:
        return f"Not resolved: {against}, but another split may still be better by {lost}; run more seeds."
    return (
        f"Resolved: {against}, and the split of the budget explains it (p = {surface.p:.2g}); "
        f"the choice loses at most {lost} ({region.level:.0%}{surface.caveat}).{_elsewhere(region)}"
    )


def _elsewhere(region: Region) -> str:
    return "" if len(region.places) == 1 else f" Which of {len(region.places)} places of the triangle is best is open."
