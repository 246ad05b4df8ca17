"""Is there a signal: do candidates differ beyond seed noise, and do their shares explain it?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scalesearch.analysis.comparison import TwoWay
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.region import Region
from scalesearch.analysis.statistics import SIGNIFICANT
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.runtime.text import percent

# A choice is resolved only if another split could gain at most this part of the range between the best split and the
# worst; above half of that it is resolved narrowly.
AT_STAKE = 0.5
_NARROW = AT_STAKE / 2


@dataclass(frozen=True, slots=True)
class Signal:
    """How far candidates differ, against the seed noise. Values are in the metric's unit, None if unknown.

    Attributes:
        spread: standard deviation of the candidates' means.
        seed_sd: standard deviation of one seed's result within a candidate, without the seed's effect on all.
        noise: standard deviation of a candidate's mean due to the seeds.
        f: F of the candidates against seed noise; None also if there is no noise at all.
        p: its p value.
        intraclass: part of the variance of single results that is due to the candidates.
        metric: name of the metric.
        candidates: number of finished candidates.
        seeds: number of distinct seeds.
        surface_p: p value of the surface against a constant.
        lack_of_fit_p: p value of the candidates' deviation from the surface against seed noise.
        region: part of the triangle where the optimum may be.
        regret: the most that another split could gain over the surface's optimum.
        range: difference between the surface's best and worst splits.
        resolved: whether `p` and `surface_p` are significant and the regret is at most `AT_STAKE` of the range.
        verdict: the same in sentences.
    """

    spread: float | None
    seed_sd: float | None
    noise: float | None
    f: float | None
    p: float | None
    intraclass: float | None
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
    metric: str,
    surface: Surface | None = None,
    region: Region | None = None,
    lack_of_fit_p: float | None = None,
    why: str = "",
) -> Signal:
    """The signal in a study.

    Args:
        model: the two-way model of its runs.
        metric: name of the metric.
        surface: the surface, with the error that its region was computed with; None if there is none.
        region: the confidence region of its optimum; None without a surface.
        lack_of_fit_p: p value of the surface's lack of fit.
        why: why there is no surface.
    """
    differ = model.p is not None and model.p < SIGNIFICANT
    explained = surface is not None and surface.p < SIGNIFICANT
    return Signal(
        spread=model.spread,
        seed_sd=_root(model.error_variance),
        noise=_root(model.noise_variance),
        f=model.f,
        p=model.p,
        intraclass=model.intraclass,
        metric=metric,
        candidates=len(model.candidates),
        seeds=model.seeds,
        surface_p=None if surface is None else surface.p,
        lack_of_fit_p=lack_of_fit_p,
        region=None if region is None else region.part,
        regret=None if region is None else region.regret,
        range=None if region is None else region.range,
        resolved=differ and explained and region is not None and region.regret <= AT_STAKE * region.range,
        verdict=_verdict(model, metric_of(metric).label, surface, region, why),
    )


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)


def _verdict(model: TwoWay, label: str, surface: Surface | None, region: Region | None, why: str) -> str:
    # What cannot be judged at all.
    if model.spread is None:
        return "Not resolved: fewer than two candidates finished."
    spread = f"The candidates' {label} has a standard deviation of {model.spread:.3g}"
    if model.p is None or model.noise_variance is None:
        return f"Not resolved: one seed per candidate cannot show the seed noise. {spread}. Run at least two seeds."

    # The candidates against seed noise.
    if model.all_equal:
        return (
            f"Not resolved: all {len(model.means)} candidates have the same {label}, {model.means[0]:.4g}. Take "
            "another metric, more validation images, or a task that is neither too easy nor too hard."
        )
    f = "" if model.f is None else f"F = {model.f:.3g}, "
    facts = f"{spread}, against a seed noise of {math.sqrt(model.noise_variance):.3g} ({f}p = {model.p:.2g})"
    if model.p >= SIGNIFICANT:
        return (
            f"Not resolved: candidates do not differ by more than seed noise. {facts}. "
            "Run more seeds or a longer schedule."
        )

    # The surface against a constant.
    if surface is None or region is None:
        return f"Not resolved: {why}. {facts}."
    if surface.p >= SIGNIFICANT:
        return f"Not resolved: the shares do not explain the differences (p = {surface.p:.2g}). {facts}."

    # What another split could gain.
    part, level = percent(region.regret / region.range, 2), percent(region.level)
    gain = f"{region.regret:.3g}, {part} of the best-to-worst range ({level} confidence{surface.caveat})"
    facts = f"{facts}, and the shares explain it (p = {surface.p:.2g})"
    if region.regret > AT_STAKE * region.range:
        return f"Not resolved: another split could gain up to {gain}. {facts}. Run more seeds."
    narrowly = ", but narrowly" if region.regret > _NARROW * region.range else ""
    pieces = len(region.places)
    separate = "" if pieces == 1 else f", in {pieces} separate pieces"
    return (
        f"Resolved{narrowly}: the true optimum lies in the confidence region ({region.part_text} of the triangle"
        f"{separate}); moving to it would gain at most {gain}. {facts}."
    )
