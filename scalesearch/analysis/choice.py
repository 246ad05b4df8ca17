"""The choice of a rule: which shares are best, what the choice rests on, and how certain it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from scalesearch.analysis.comparison import finished_runs, two_way
from scalesearch.analysis.grounds import basis_of_surface, certainty_of, shares_text
from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.optimum import optimum, where
from scalesearch.analysis.region import Region, confidence_region
from scalesearch.analysis.select import select_surface
from scalesearch.analysis.signal import Signal, signal_of
from scalesearch.analysis.statistics import FloatArray
from scalesearch.analysis.surfaces.base import InsufficientTrials, Surface
from scalesearch.analysis.tables import SHARE_COLUMNS, finished_candidates
from scalesearch.results.records import DONE, PRUNED
from scalesearch.runtime.text import plural
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.rule import ScalingRule
from scalesearch.scaling.simplex import FAR, NAMES, Shares
from scalesearch.study.sections import Study

HOLE = 2 * FAR
"""No optimum of a surface is chosen that lies further than this, in shares, from every trained candidate."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen shares, what they rest on, and how certain they are.

    Attributes:
        shares: the chosen split of the budget.
        basis: what it rests on, in sentences.
        certainty: how certain it is, in sentences.
        signal: whether candidates differ, and why.
        surface: the surface, with the error that its region was computed with; None if none could be fitted.
        region: the confidence region of its optimum; None without a surface.
        tied: the candidates that the seeds cannot distinguish from the best, as JSON objects, best first.
    """

    shares: Shares
    basis: str
    certainty: str
    signal: Signal
    surface: Surface | None
    region: Region | None
    tied: tuple[Mapping[str, Any], ...]

    def __repr__(self) -> str:
        """The shares in a line; `basis` and `certainty` say what they rest on."""
        return f"<Choice: {shares_text(self.shares.values)}>"

    @property
    def where(self) -> str:
        """Whether the shares are in the interior, on an edge or in a corner of the triangle."""
        return where(self.shares)

    @property
    def maximise(self) -> bool:
        """Whether a greater metric is better."""
        return metric_of(self.signal.metric).maximise

    def may_be_optimum(self, shares: FloatArray) -> NDArray[np.bool_]:
        """Which of `shares` (N, 3) the confidence region contains; all of them without a surface."""
        if self.surface is None:
            return np.ones(len(shares), bool)
        return self.surface.may_be_optimum(shares, self.maximise)


def choose(trials: pd.DataFrame, candidates: pd.DataFrame, budget: float, metric: str) -> Choice:
    """The optimum of the surface or, if there is none near a trained candidate, the shares of the best candidate.

    Args:
        trials: a table with `tables.TRIAL_COLUMNS`.
        candidates: the table of the same run with `tables.CANDIDATE_COLUMNS`.
        budget: the study's budget B.
        metric: name of the metric.

    Raises:
        InsufficientTrials: if no candidate finished.
        ValueError: if the metric is unknown.
    """
    with threadpool_limits(1, user_api="blas"):  # matrices are small: more threads would wait for one another
        return _choose(trials, candidates, budget, metric)


def _choose(trials: pd.DataFrame, candidates: pd.DataFrame, budget: float, metric: str) -> Choice:
    maximise = metric_of(metric).maximise

    # The candidates by themselves: the seeds' noise, the tied set, and the best one, of the lowest level.
    model = two_way(finished_runs(trials, metric), metric)
    finished = finished_candidates(candidates, metric)
    tied = tuple(_tied_json(row) for row in finished[finished["tied"]].to_dict("records"))
    if finished.empty:
        raise InsufficientTrials(
            f"a rule needs at least one finished candidate, but none of {len(candidates)} finished"
        )
    lowest = finished[finished["phi"].eq(finished["phi"].min())]
    values = lowest[metric].to_numpy(float)
    best = lowest.iloc[int(values.argmax() if maximise else values.argmin())]
    best_shares = Shares(*map(float, best[SHARE_COLUMNS]))
    best_basis = f"The shares of the best of {plural(len(finished), 'candidate')}"

    # The surface; without one the best candidate is chosen.
    try:
        surface, lack_of_fit_p = select_surface(candidates, budget, metric, model)
        peak = optimum(surface, maximise)
        _check_pruned(surface, peak, candidates)
    except InsufficientTrials as error:
        signal = signal_of(model, metric, why=str(error))
        certainty = certainty_of(None, budget, len(tied), len(finished))
        return Choice(best_shares, f"{best_basis}, because {error}.", certainty, signal, None, None, tied)

    # Where no network was trained the surface is a guess: then the candidate that it holds best is chosen.
    trained = finished[SHARE_COLUMNS].to_numpy(float)
    distance = float(np.linalg.norm(trained - peak.values, axis=1).min())
    chosen = peak if distance <= HOLE else _best_trained(surface, trained, maximise)

    # How certain it is.
    region = confidence_region(surface, chosen, maximise)
    signal = signal_of(model, metric, surface, region, lack_of_fit_p)
    certainty = certainty_of(region, budget, len(tied), len(finished))

    # A surface that explains nothing has no meaningful optimum.
    if surface.adjusted_r2 <= 0:
        basis = (
            f"{best_basis}, because the {surface.model} surface explains nothing (adjusted R² "
            f"{surface.adjusted_r2:.2f})."
        )
        return Choice(best_shares, basis, certainty, signal, surface, region, tied)
    basis = basis_of_surface(surface, peak, finished, signal)
    if chosen is not peak:
        basis = (
            f"The shares of the candidate that is best on a {surface.model} surface fitted to {surface.n} candidates, "
            f"because the optimum of the surface at {shares_text(peak.values)} is {distance:.2f} in shares from the "
            "nearest trained candidate: no network there costs the budget, so nothing is known."
        )
    return Choice(chosen, basis, certainty, signal, surface, region, tied)


def _best_trained(surface: Surface, trained: FloatArray, maximise: bool) -> Shares:
    """Of the shares (N, 3) of trained candidates, those that are best on the surface."""
    values = surface.predict(trained)
    return Shares(*trained[int(values.argmax() if maximise else values.argmin())].tolist())


def _check_pruned(surface: Surface, peak: Shares, candidates: pd.DataFrame) -> None:
    """Raises `InsufficientTrials` if the candidate nearest to the surface's optimum `peak` was pruned.

    The candidates that finish are close to the best of all; far from them no data constrain the surface.
    """
    known = candidates[candidates["status"].isin((DONE, PRUNED))]
    if known["status"].eq(DONE).all():
        return
    distances = np.linalg.norm(known[SHARE_COLUMNS].to_numpy(float) - peak.values, axis=1)
    if known["status"].iloc[int(distances.argmin())] == PRUNED:
        raise InsufficientTrials(
            f"the {surface.model} surface has its optimum at {shares_text(peak.values)}, next to a pruned candidate"
        )


def _tied_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    chance = float(row["chance"])
    return {
        "depths": [int(size) for size in row["depths"].split()],
        "widths": [int(size) for size in row["widths"].split()],
        "resolution": int(row["resolution"]),
        "shares": {name: float(row[f"{name}_share"]) for name in NAMES},
        "chance": chance if np.isfinite(chance) else None,
    }


def rule_of(choice: Choice, study: Study, provenance: Mapping[str, Any]) -> ScalingRule:
    """The scaling rule of `choice` for `study`; `provenance` is extended by the choice's `basis`."""
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
    """The level, intervals of α, β and γ, and the region's part of the triangle, places, regret and range."""
    if region is None:
        return None
    bounds = {name: list(bound) for name, bound in region.intervals(budget).items()}
    return {
        "level": region.level,
        **bounds,
        "region": region.part,
        "places": region.places.tolist(),
        "regret": region.regret,
        "range": region.range,
    }
