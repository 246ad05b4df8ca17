"""The grounds of a choice in sentences: what it rests on, and how certain it is."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.optimum import optimum, where
from scalesearch.analysis.region import Region
from scalesearch.analysis.signal import Signal
from scalesearch.analysis.statistics import SIGNIFICANT
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.analysis.tables import SHARE_COLUMNS
from scalesearch.runtime.text import percent, plural
from scalesearch.scaling.simplex import FAR, NAMES, Shares

# Number of the most influential candidates that are left out in turn to see whether one of them decides the choice.
LEFT_OUT_IN_TURN = 3
# A region in up to this many pieces has its pieces listed.
MOST_LISTED = 3
# Distance in shares below which two choices are the same in practice.
SAME = 0.05


def basis_of_surface(surface: Surface, peak: Shares, finished: pd.DataFrame, signal: Signal) -> str:
    """What the choice of a surface's optimum `peak` rests on, and every reason to doubt it.

    `finished` are the finished candidates, rows of the candidates' table.
    """
    r2 = f"adjusted R² {surface.adjusted_r2:.2f}"
    sentences = [
        f"The optimum ({where(peak)}) of a {surface.model} surface fitted to {surface.n} candidates ({r2}).",
        _extrapolation(peak, finished),
        _lack_of_fit(signal.lack_of_fit_p),
        _deciding_candidate(surface, peak, finished, metric_of(signal.metric).maximise),
        _conflicting_levels(surface.levels_p),
    ]
    return " ".join(filter(None, sentences))


def _extrapolation(peak: Shares, finished: pd.DataFrame) -> str:
    nearest = float(np.linalg.norm(finished[SHARE_COLUMNS].to_numpy(float) - np.array(peak.values), axis=1).min())
    if nearest <= FAR:
        return ""
    return f"This is an extrapolation: the nearest trained candidate is {nearest:.2f} away in shares."


def _lack_of_fit(p: float | None) -> str:
    if p is None or p >= SIGNIFICANT:
        return ""
    return f"Candidates deviate from the surface by more than seed noise (p = {p:.2g})."


def _deciding_candidate(surface: Surface, peak: Shares, finished: pd.DataFrame, maximise: bool) -> str:
    """A sentence if leaving out one of the most influential candidates moves the optimum far, out of the region."""
    for index in np.argsort(surface.influence)[::-1][:LEFT_OUT_IN_TURN].tolist():
        moved = optimum(surface.without(index), maximise)
        far = math.dist(moved.values, peak.values) > SAME
        if far and not surface.may_be_optimum(np.array([moved.values]), maximise)[0]:
            candidate = finished.iloc[index]
            return (
                f"The choice depends on candidate {candidate['candidate']} ({shares_text(candidate[SHARE_COLUMNS])}): "
                f"without it the optimum would be at {shares_text(moved.values)}, outside the confidence region."
            )
    return ""


def _conflicting_levels(p: float | None) -> str:
    if p is None or p >= SIGNIFICANT:
        return ""
    return f"The levels φ contradict each other (p = {p:.2g}): no single rule fits all of them."


def certainty_of(region: Region | None, budget: float, tied: int, finished: int) -> str:
    """How certain a choice is: the `region` of its optimum, and how many of the `finished` candidates are `tied`."""
    by_seeds = f"By the seeds alone, {tied} of {plural(finished, 'candidate')} may be the best."
    if region is None:
        return by_seeds
    bounds = ", ".join(
        f"{letter} {low:.3f} to {high:.3f}"
        for letter, (low, high) in zip("αβγ", region.intervals(budget).values(), strict=True)
    )
    places = region.places.tolist()
    pieces = "" if len(places) == 1 else f", in {len(places)} separate pieces"
    if 1 < len(places) <= MOST_LISTED:
        pieces += f" with their best points at {'; '.join(map(shares_text, places))}"
    return (
        f"If the surface is right, the {percent(region.level)} confidence intervals are {bounds} "
        f"({region.part_text} of the triangle{pieces}). {by_seeds}"
    )


def shares_text(shares: Iterable[float]) -> str:
    """Shares (3,) by name.

    >>> shares_text([0.2, 0.5, 0.3])
    'depth 0.20, width 0.50, resolution 0.30'
    """
    return ", ".join(f"{name} {share:.2f}" for name, share in zip(NAMES, shares, strict=True))
