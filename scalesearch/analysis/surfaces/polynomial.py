"""Mixture polynomials as response surfaces: least squares on candidate means, the model chosen by cross-validation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student
from statsmodels.regression.linear_model import WLS  # not statsmodels.api, which imports plots and data sets

from scalesearch.analysis.statistics import LEVEL, FloatArray, clearly_better, f_test, root_mean_square
from scalesearch.analysis.surfaces.base import InsufficientTrials, Surface
from scalesearch.analysis.surfaces.cone import ConeTest
from scalesearch.analysis.surfaces.data import SurfaceData, surface_data
from scalesearch.analysis.surfaces.mixture import CUBIC, LINEAR, QUADRATIC, TERM_NAMES, TERMS, mixture_terms
from scalesearch.analysis.surfaces.stationary import stationary_points
from scalesearch.scaling.simplex import Shares

COVARIATE = "ln(macs ratio / budget)"


@dataclass(frozen=True, slots=True)
class Polynomial(Surface):
    """y = Σ bᵢ xᵢ + Σ bᵢⱼ xᵢ xⱼ + b₁₂₃ x₁ x₂ x₃ + c · ln(macs ratio ÷ B), by weighted least squares.

    `model` is "Scheffé linear" (the first sum), "Scheffé quadratic" (both sums) or "Scheffé special cubic" (all). With
    several levels φ each level but the lowest has another constant. `p` is that of the shares' terms against a
    constant, with the covariate in both.

    The robust errors are HC3: they allow each candidate its own variance. They are also robust to clusters if the
    seeds of a candidate are a cluster: the jackknife that leaves out a candidate with all its seeds (CV3, which has a
    factor of (n − 1) ÷ n) is HC3 on the means, whether or not all candidates have the same seeds.
    Source: MacKinnon, Nielsen and Webb, "Leverage, influence, and the jackknife in clustered regression models",
    Stata J. 23 (2023), arXiv:2205.03288.

    Attributes:
        terms: names (t,) of the terms: those of the shares, of further levels, the covariate.
        coefficients: coefficients (t,).
        standard_errors: their standard errors (t,).
        robust_errors: their HC3 errors (t,).
        covariance: their covariance (t, t).
        shifts: what each candidate adds to the coefficients (n, t).
    """

    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    standard_errors: tuple[float, ...]
    robust_errors: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    shifts: tuple[tuple[float, ...], ...]

    def parameters(self) -> tuple[tuple[str, ...], Iterable[tuple[str, ...]]]:
        """The terms, their coefficients and both kinds of error."""
        rows = zip(self.terms, self.coefficients, self.standard_errors, self.robust_errors, strict=True)
        return (
            ("term", "coefficient", "standard error", "robust error (HC3)"),
            ((term, *(f"{value:.4f}" for value in values)) for term, *values in rows),
        )

    @property
    def mixture_coefficients(self) -> tuple[FloatArray, FloatArray]:
        """Coefficients (q,) of the shares' terms and their covariance (q, q); levels and covariate are omitted."""
        size = TERMS[self.model]
        return np.array(self.coefficients[:size]), np.array(self.covariance)[:size, :size]

    def mixture(self, shares: ArrayLike) -> FloatArray:
        """The shares' terms (N, q) at `shares` (N, 3)."""
        return mixture_terms(np.asarray(shares, float), TERMS[self.model])

    def predict(self, shares: ArrayLike) -> FloatArray:
        """The sum of the shares' terms."""
        return np.asarray(self.mixture(shares) @ self.mixture_coefficients[0])

    def standard_error(self, shares: ArrayLike) -> FloatArray:
        """√(t V tᵀ) for the terms t and their covariance V."""
        terms, (_, covariance) = self.mixture(shares), self.mixture_coefficients
        return np.asarray(np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", terms, covariance, terms), 0.0)))

    def with_error(self, variance: float, df: float) -> Self:
        """Standard errors scale with the root of the variance; coefficients, robust errors and p stay.

        With the pooled error p would be wrong on a flat surface in up to 10 % of studies instead of 5 %, if candidates
        deviate from it (12 candidates that deviate by as much as the noise of a mean).
        """
        ratio = variance / self.residual_sd**2
        root = math.sqrt(ratio)
        return replace(
            self,
            standard_errors=tuple(error * root for error in self.standard_errors),
            covariance=tuple(tuple(value * ratio for value in row) for row in self.covariance),
            residual_sd=math.sqrt(variance),
            residual_df=df,
        )

    def without(self, index: int) -> Self:
        """Exact, without another fit: the candidate's shift is subtracted."""
        shift = self.shifts[index]
        return replace(self, coefficients=tuple(b - s for b, s in zip(self.coefficients, shift, strict=True)))

    def optimum_candidates(self, maximise: bool) -> FloatArray:
        """The stationary points and the corners."""
        del maximise
        return stationary_points(self.mixture_coefficients[0])

    def p_optimum(self, shares: FloatArray, maximise: bool) -> FloatArray:
        """P values (N,) of each of `shares` (N, 3) being the optimum."""
        return self._cone_test(maximise).p(shares)

    def may_be_optimum(self, shares: FloatArray, maximise: bool, level: float = LEVEL) -> NDArray[np.bool_]:
        """Those with a p value of at least 1 − level."""
        return self._cone_test(maximise).accepts(shares, level)

    def regret_bound(self, best: Shares, region: FloatArray, maximise: bool, level: float = LEVEL) -> float:
        """The greatest of the two-sided bounds of the differences; two-sided since `best` is where it looks best."""
        coefficients, covariance = self.mixture_coefficients
        terms = (-1.0 if maximise else 1.0) * (self.mixture([best.values]) - self.mixture(region))
        error = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", terms, covariance, terms), 0.0))
        return float((terms @ coefficients + student.ppf((1 + level) / 2, self.residual_df) * error).max())

    def _cone_test(self, maximise: bool) -> ConeTest:
        return ConeTest(*self.mixture_coefficients, self.residual_df, maximise)


def fit_polynomial(candidates: pd.DataFrame, budget: float, metric: str) -> Polynomial:
    """The polynomial for `metric` over the shares of the finished candidates, weighted by their seeds.

    A model can be fitted if there are more distinct shares than it has terms and they determine the terms. The
    quadratic model is taken, or the special cubic if it predicts left-out candidates clearly better; the linear model,
    whose optimum is always a corner, only if the quadratic cannot be fitted. The covariate is omitted if the macs do
    not vary apart from the shares, or if its slope has the wrong sign.

    Args:
        candidates: a table with `tables.CANDIDATE_COLUMNS`.
        budget: the study's budget B.
        metric: name of the metric.

    Raises:
        InsufficientTrials: if not even the linear model can be fitted.
    """
    data = surface_data(candidates, budget, metric)
    reasons = {model: data.why_not(model) for model in TERMS}
    possible = [model for model, reason in reasons.items() if not reason]
    if not possible:
        raise InsufficientTrials(f"no surface can be fitted ({reasons[QUADRATIC]}; {reasons[LINEAR]})")
    errors = {model: data.leave_one_out(model)[0] for model in possible}
    chosen = QUADRATIC if QUADRATIC in possible else LINEAR
    if CUBIC in possible and clearly_better(errors[CUBIC], errors[QUADRATIC]):
        chosen = CUBIC
    return replace(
        _least_squares(data, chosen),
        model_note=reasons[QUADRATIC] if chosen == LINEAR else "",
        validation=tuple((model, root_mean_square(error)) for model, error in errors.items()),
    )


def _least_squares(data: SurfaceData, model: str) -> Polynomial:
    """`model` fitted to `data`; `model_note` and `validation` are empty."""
    # The full model, and the model in which the shares have no effect.
    mixture = mixture_terms(data.shares, TERMS[model])
    design = data.with_covariates(mixture, model)
    constant = data.with_covariates(np.ones((len(mixture), 1)), model)
    result = WLS(data.response, design, weights=data.weights, hasconst=True).fit()
    reduced = WLS(data.response, constant, weights=data.weights, hasconst=True).fit()
    _, p = f_test(float(reduced.ssr), float(result.ssr), mixture.shape[1] - 1, int(result.df_resid))

    # What each candidate does to the fit.
    errors, leverage = data.leave_one_out(model)
    shifts = design * (data.weights * errors)[:, None] @ result.normalized_cov_params
    with np.errstate(divide="ignore", invalid="ignore"):  # a candidate that alone determines a term has no error
        robust = result.get_robustcov_results("HC3").bse

    covariate_note = data.covariate_note(model)
    return Polynomial(
        metric=data.metric,
        budget=data.budget,
        model=model,
        model_note="",
        covariate_note=covariate_note,
        terms=(
            *TERM_NAMES[: TERMS[model]],
            *(f"φ = {phi:g}" for phi in data.further_levels),
            *([] if covariate_note else [COVARIATE]),
        ),
        coefficients=tuple(map(float, result.params)),
        standard_errors=tuple(map(float, result.bse)),
        robust_errors=tuple(map(float, robust)),
        covariance=tuple(tuple(map(float, row)) for row in result.cov_params()),
        shifts=tuple(tuple(map(float, row)) for row in shifts),
        adjusted_r2=float(result.rsquared_adj) if result.centered_tss > 0 else 0.0,
        residual_sd=math.sqrt(result.scale),
        residual_df=int(result.df_resid),
        p=p,
        n=len(data.response),
        left_out=tuple(map(float, errors)),
        influence=tuple(map(float, data.influence(errors, leverage, result.scale))),
        validation=(),
        levels_p=data.levels_p(float(result.ssr), mixture, design),
    )
