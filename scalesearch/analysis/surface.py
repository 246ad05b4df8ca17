"""The response surface over the shares (a Scheffé mixture model), and its exact optimum on the triangle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution
from statsmodels.regression.linear_model import WLS  # not statsmodels.api, which imports plots and data sets

from scalesearch.analysis.metrics import metric_of
from scalesearch.records import DONE
from scalesearch.scaling.simplex import Shares

FloatArray = NDArray[np.float64]

NAMES = ("depth", "width", "resolution")
PAIRS = tuple(combinations(range(3), 2))
COVARIATE = "ln(macs ratio / budget)"
# Own variation of ln(macs ratio) below which nothing can be learnt from it: a millionth of the macs.
_NO_VARIATION = 1e-6
# Shares below this are 0: the optimum is then said to lie on the edge.
_ON_EDGE = 1e-9


class InsufficientTrials(Exception):
    """Too few finished candidates for what was asked; the message says how many there are and are needed."""


@dataclass(frozen=True, slots=True)
class SurfaceFit:
    """y = Σ bᵢ xᵢ + Σ bᵢⱼ xᵢ xⱼ + c · ln(macs ratio ÷ B) by weighted least squares on candidate means.

    `terms`, `coefficients`, `standard_errors` and `covariance` run alike. `model` is "Scheffé quadratic" or
    "Scheffé linear"; `model_note` and `covariate_note` say why a term is not there (empty where all are).
    `residual_sd` is that of one seed's result (weights are numbers of seeds), lack of fit included. `f`, `p`
    test the shares' terms against a constant, the covariate being in both. Units are the metric's.
    """

    metric: str
    budget: float
    model: str
    model_note: str
    covariate_note: str
    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    standard_errors: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    r2: float
    adjusted_r2: float
    residual_sd: float
    residual_df: int
    f: float
    p: float
    n: int

    def predict(self, shares: ArrayLike) -> FloatArray:
        """Predictions (N,) at `shares` (N, 3) for networks that cost the budget exactly."""
        return np.asarray(self._mixture(shares) @ np.array(self._own(self.coefficients)))

    def standard_error(self, shares: ArrayLike) -> FloatArray:
        """Standard errors (N,) of the predictions at `shares` (N, 3)."""
        terms = self._mixture(shares)
        size = terms.shape[1]
        covariance = np.array(self.covariance)[:size, :size]
        return np.asarray(np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", terms, covariance, terms), 0.0)))

    @property
    def linear(self) -> FloatArray:
        """The coefficients (3,) of depth, width and resolution."""
        return np.array(self.coefficients[:3])

    @property
    def interaction(self) -> FloatArray:
        """The coefficients (3,) of the pairs in the order of `PAIRS`; zeros in the linear model."""
        return np.array(self._own(self.coefficients)[3:] or (0.0, 0.0, 0.0))

    def _own(self, values: Sequence[float]) -> tuple[float, ...]:
        return tuple(value for term, value in zip(self.terms, values, strict=True) if term != COVARIATE)

    def _mixture(self, shares: ArrayLike) -> FloatArray:
        return _mixture(np.asarray(shares, float), quadratic=len(self._own(self.coefficients)) > 3)


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best point of a surface. `where` is interior, edge: no depth (and so on) or corner: all depth (and so on)."""

    shares: Shares
    where: str
    value: float
    standard_error: float


def _mixture(shares: FloatArray, *, quadratic: bool) -> FloatArray:
    if not quadratic:
        return shares
    return np.column_stack([shares, *(shares[:, i] * shares[:, j] for i, j in PAIRS)])


def fit_surface(candidates: pd.DataFrame, budget: float, metric: str) -> SurfaceFit:
    """The surface of `metric` over the realised shares of the finished candidates, weighted by their seeds.

    `candidates` has `tables.CANDIDATE_COLUMNS`. Quadratic where the distinct shares are more than its terms
    and determine them, else linear on the same condition. The covariate is left out where the macs do not
    vary on their own. Raises `InsufficientTrials` where not even the linear model can be fitted.
    Source: Scheffé, "Experiments with mixtures", J. R. Stat. Soc. B 20 (1958).
    """
    metric_of(metric)
    finished = candidates[candidates["status"].eq(DONE) & np.isfinite(candidates[metric])]
    shares = finished[[f"{name}_share" for name in NAMES]].to_numpy(float)
    distinct = len(np.unique(shares.round(9), axis=0))
    log_ratio = np.log(finished["macs_ratio"].to_numpy(float) / budget)
    notes: list[str] = []
    for model, quadratic in (("Scheffé quadratic", True), ("Scheffé linear", False)):
        mixture = _mixture(shares, quadratic=quadratic)
        needed = mixture.shape[1] + 2  # the covariate, and a degree of freedom for the error
        if distinct < needed:
            notes.append(f"the {model} model needs {needed} distinct candidates, but {distinct} finished")
            continue
        if np.linalg.matrix_rank(mixture, tol=1e-6) < mixture.shape[1]:
            notes.append(f"the {distinct} distinct candidates do not span the {model} model")
            continue
        response, weights = finished[metric].to_numpy(float), finished["seeds"].to_numpy(float)
        return _fit(mixture, log_ratio, response, weights, metric, budget, model, "; ".join(notes))
    raise InsufficientTrials(f"no surface can be fitted: {'; '.join(notes)}")


def _fit(
    mixture: FloatArray,
    log_ratio: FloatArray,
    response: FloatArray,
    weights: FloatArray,
    metric: str,
    budget: float,
    model: str,
    model_note: str,
) -> SurfaceFit:
    terms = [*NAMES, *(f"{NAMES[i]}·{NAMES[j]}" for i, j in PAIRS)][: mixture.shape[1]]
    note = _covariate_note(mixture, log_ratio)
    constant = np.ones((len(response), 1))
    design = mixture
    if not note:
        terms.append(COVARIATE)
        design, constant = (np.column_stack([part, log_ratio]) for part in (mixture, constant))
    result = WLS(response, design, weights=weights, hasconst=True).fit()
    reduced = WLS(response, constant, weights=weights, hasconst=True).fit()
    f, p = f_test(float(reduced.ssr), float(result.ssr), mixture.shape[1] - 1, int(result.df_resid))
    varies = result.centered_tss > 0
    return SurfaceFit(
        metric=metric,
        budget=budget,
        model=model,
        model_note=model_note,
        covariate_note=note,
        terms=tuple(terms),
        coefficients=tuple(map(float, result.params)),
        standard_errors=tuple(map(float, result.bse)),
        covariance=tuple(tuple(map(float, row)) for row in result.cov_params()),
        r2=float(result.rsquared) if varies else 0.0,
        adjusted_r2=float(result.rsquared_adj) if varies else 0.0,
        residual_sd=math.sqrt(result.scale),
        residual_df=int(result.df_resid),
        f=f,
        p=p,
        n=len(response),
    )


def _covariate_note(mixture: FloatArray, log_ratio: FloatArray) -> str:
    if np.ptp(log_ratio) < _NO_VARIATION:
        return "macs ratio left out: all candidates cost the same"
    explained = mixture @ np.linalg.lstsq(mixture, log_ratio, rcond=None)[0]
    if np.abs(log_ratio - explained).max() < _NO_VARIATION:
        return "macs ratio left out: it follows from the shares"
    return ""


def f_test(reduced_ss: float, full_ss: float, df: int, residual_df: int) -> tuple[float, float]:
    """F and p of `df` terms from the residual sums of squares of the models without and with them.

    A full model that fits to rounding error has F = ∞ and p = 0 where the reduced one does not, else F = 0, p = 1.
    """
    gained = max(reduced_ss - full_ss, 0.0)
    if full_ss <= 1e-20 * max(reduced_ss, 1e-300) or full_ss < 1e-28:
        return (math.inf, 0.0) if gained > 1e-24 else (0.0, 1.0)
    f = (gained / df) / (full_ss / residual_df)
    return f, float(f_distribution.sf(f, df, residual_df))


def optimum(fit: SurfaceFit, maximise: bool) -> Optimum:
    """The exact best point of the fitted quadratic on the triangle, for networks that cost the budget exactly.

    A quadratic's extreme is a stationary point of the interior or of an edge, or a corner; all are
    computed in closed form and compared. `maximise` for a metric of which more is better.
    """
    points = np.array([*np.eye(3), *_edge_points(fit), *_interior_points(fit)])
    values = fit.predict(points)
    best = points[(values.argmax if maximise else values.argmin)()]
    best = np.where(best < _ON_EDGE, 0.0, best)
    best = best / best.sum()
    value, error = fit.predict(best[None])[0], fit.standard_error(best[None])[0]
    return Optimum(Shares(*map(float, best)), describe(best), float(value), float(error))


def describe(shares: FloatArray) -> str:
    """Where on the triangle `shares` (3,) lie, in plain words."""
    present = [name for name, share in zip(NAMES, shares.tolist(), strict=True) if share >= _ON_EDGE]
    if len(present) == 1:
        return f"corner: all {present[0]}"
    absent = [name for name in NAMES if name not in present]
    return f"edge: no {absent[0]}" if absent else "interior"


def _edge_points(fit: SurfaceFit) -> list[FloatArray]:
    """Along xᵢ = t, xⱼ = 1 − t the surface is bᵢt + bⱼ(1 − t) + bᵢⱼt(1 − t), still at t = (bᵢ − bⱼ + bᵢⱼ) ÷ 2bᵢⱼ."""
    points: list[FloatArray] = []
    for (i, j), pair in zip(PAIRS, fit.interaction.tolist(), strict=True):
        if pair == 0:
            continue
        t = (fit.linear[i] - fit.linear[j] + pair) / (2 * pair)
        if 0 < t < 1:
            point = np.zeros(3)
            point[i], point[j] = t, 1 - t
            points.append(point)
    return points


def _interior_points(fit: SurfaceFit) -> list[FloatArray]:
    """The stationary point of the surface on the plane Σx = 1, by its multiplier's equations, where it is inside."""
    system = np.zeros((4, 4))
    for (i, j), pair in zip(PAIRS, fit.interaction.tolist(), strict=True):
        system[i, j] = system[j, i] = pair
    system[:3, 3] = system[3, :3] = 1
    scale = max(float(np.abs(fit.interaction).max()), 1e-300)
    system[:3, :3] /= scale  # only the ratio of the terms matters; the constraint's rows stay as large as they
    if np.linalg.cond(system) > 1e12:
        return []  # a valley or ridge: it reaches an edge, where it is found
    point = np.linalg.solve(system, np.array([*(-fit.linear / scale), 1.0]))[:3]
    return [point] if (point > 0).all() else []
