"""The response surface over the shares: Scheffé mixture models, fitted, tested and chosen by cross-validation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution
from statsmodels.regression.linear_model import (  # not statsmodels.api, which imports plots and data sets
    WLS,
    RegressionResultsWrapper,
)

from scalesearch.analysis.metrics import metric_of
from scalesearch.records import DONE
from scalesearch.scaling.markup import markup

FloatArray = NDArray[np.float64]

NAMES = ("depth", "width", "resolution")
PAIRS = tuple(combinations(range(3), 2))
COVARIATE = "ln(macs ratio / budget)"
LINEAR, QUADRATIC, CUBIC = "Scheffé linear", "Scheffé quadratic", "Scheffé special cubic"
TERMS = {LINEAR: 3, QUADRATIC: 6, CUBIC: 7}
_NAMES_OF_TERMS = (*NAMES, *(f"{NAMES[i]}·{NAMES[j]}" for i, j in PAIRS), "·".join(NAMES))
# Own variation of ln(macs ratio) below which nothing can be learnt from it: a millionth of the macs.
_NO_VARIATION = 1e-6


class InsufficientTrials(Exception):
    """Too few finished candidates for what was asked; the message says how many there are and are needed."""


@dataclass(frozen=True, slots=True)
class SurfaceFit:
    """y = Σ bᵢ xᵢ + Σ bᵢⱼ xᵢ xⱼ + b₁₂₃ x₁ x₂ x₃ + c · ln(macs ratio ÷ B) by weighted least squares on candidate means.

    `model` is "Scheffé linear" (the first sum), "Scheffé quadratic" (the second too) or "Scheffé special cubic" (all).
    `terms`, `coefficients`, `standard_errors`, `robust_errors` and `covariance` run alike; the robust errors allow
    each candidate a variance of its own (HC3). `model_note` and `covariate_note` say why a term is not there (empty
    where all are). `validation` is the root mean square error of leaving one candidate out, by model.
    `residual_sd` is that of one seed's result (weights are numbers of seeds), lack of fit included. `f`, `p`
    test the shares' terms against a constant, the covariate being in both. With several levels φ each further one has a
    term of its own, how far all of it lies from the first, and `levels_p` tests whether the shares' terms differ
    between levels (None where it cannot be judged). Units are the metric's.
    """

    metric: str
    budget: float
    model: str
    model_note: str
    covariate_note: str
    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    standard_errors: tuple[float, ...]
    robust_errors: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    r2: float
    adjusted_r2: float
    residual_sd: float
    residual_df: int
    f: float
    p: float
    n: int
    validation: tuple[tuple[str, float], ...]
    levels_p: float | None

    def _repr_html_(self) -> str:
        rows = (
            (term, f"{value:.4f}", f"{error:.4f}")
            for term, value, error in zip(self.terms, self.coefficients, self.standard_errors, strict=True)
        )
        fit = f"Adjusted R² {self.adjusted_r2:.2f} over {self.n} candidates; p = {self.p:.2g} against a constant."
        title = f"{self.model} surface of {self.metric}"
        return markup(title, ("term", "coefficient", "standard error"), rows, fit, self.model_note, self.covariate_note)

    def predict(self, shares: ArrayLike) -> FloatArray:
        """Predictions (N,) at `shares` (N, 3) for networks that cost the budget exactly."""
        return np.asarray(self.mixture(shares) @ self.mixture_coefficients[0])

    def standard_error(self, shares: ArrayLike) -> FloatArray:
        """Standard errors (N,) of the predictions at `shares` (N, 3)."""
        terms, (_, covariance) = self.mixture(shares), self.mixture_coefficients
        return np.asarray(np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", terms, covariance, terms), 0.0)))

    @property
    def linear(self) -> FloatArray:
        """The coefficients (3,) of depth, width and resolution."""
        return np.array(self.coefficients[:3])

    @property
    def interaction(self) -> FloatArray:
        """The coefficients (3,) of the pairs in the order of `PAIRS`; zeros in the linear model."""
        pairs = self.mixture_coefficients[0][3:6]
        return pairs if len(pairs) else np.zeros(3)

    @property
    def ternary(self) -> float:
        """The coefficient of the product of all three; 0 but in the special cubic model."""
        return float(self.mixture_coefficients[0][6:].sum())

    @property
    def mixture_coefficients(self) -> tuple[FloatArray, FloatArray]:
        """The coefficients (q,) of the shares' terms and their covariance (q, q); levels and covariate are left out."""
        size = TERMS[self.model]
        return np.array(self.coefficients[:size]), np.array(self.covariance)[:size, :size]

    def mixture(self, shares: ArrayLike) -> FloatArray:
        """The shares' terms (N, q) at `shares` (N, 3)."""
        return _mixture(np.asarray(shares, float), len(self.mixture_coefficients[0]))

    def with_error(self, variance: float, df: int) -> SurfaceFit:
        """The same surface, its errors those of another `variance` of one seed's result, known by `df` degrees."""
        ratio = variance / self.residual_sd**2
        root = math.sqrt(ratio)
        return replace(
            self,
            standard_errors=tuple(error * root for error in self.standard_errors),
            covariance=tuple(tuple(value * ratio for value in row) for row in self.covariance),
            residual_sd=math.sqrt(variance),
            residual_df=df,
        )

    def gradient_terms(self, shares: ArrayLike) -> FloatArray:
        """Derivatives (N, 3, q) of the terms by each share at `shares` (N, 3)."""
        points = np.asarray(shares, float)
        slopes = np.zeros((len(points), 3, len(self.mixture_coefficients[0])))
        slopes[:, range(3), range(3)] = 1.0
        if slopes.shape[2] > 3:
            for place, (i, j) in enumerate(PAIRS, start=3):
                slopes[:, i, place], slopes[:, j, place] = points[:, j], points[:, i]
                if slopes.shape[2] > 6:
                    slopes[:, 3 - i - j, 6] = points[:, i] * points[:, j]
        return slopes


def _mixture(shares: FloatArray, terms: int) -> FloatArray:
    """The first `terms` of those of the special cubic model: 3 are linear, 6 quadratic, 7 all."""
    products = [*(shares[:, i] * shares[:, j] for i, j in PAIRS), shares.prod(axis=1)]
    return np.column_stack([shares, *products[: terms - 3]])


def fit_surface(candidates: pd.DataFrame, budget: float, metric: str) -> SurfaceFit:
    """The surface of `metric` over the realised shares of the finished candidates, weighted by their seeds.

    `candidates` has `tables.CANDIDATE_COLUMNS`. A model can be fitted where the distinct shares are more than its
    terms and determine them. The quadratic one is taken, or the special cubic where it predicts candidates left
    out better, by more than two standard errors of the difference; the linear one, whose optimum is always a
    corner, only where the quadratic cannot be fitted. The covariate is left out where the macs do not
    vary on their own. Raises `InsufficientTrials` where not even the linear model can be fitted.
    Source: Scheffé, "Experiments with mixtures", J. R. Stat. Soc. B 20 (1958).
    """
    metric_of(metric)
    finished = candidates[candidates["status"].eq(DONE) & np.isfinite(candidates[metric])]
    shares = finished[[f"{name}_share" for name in NAMES]].to_numpy(float)
    phi = finished["phi"].to_numpy(float)
    data = _Data(
        shares,
        np.log(finished["macs_ratio"].to_numpy(float)) - phi * math.log(budget),
        finished[metric].to_numpy(float),
        finished["seeds"].to_numpy(float),
        phi,
    )
    models = {model: data.why_not(model) for model in TERMS}
    possible = [model for model, why in models.items() if not why]
    if not possible:
        raise InsufficientTrials(f"no surface can be fitted: {models[QUADRATIC]}; {models[LINEAR]}")
    errors = {model: data.left_out_errors(model) for model in possible}
    chosen = QUADRATIC if QUADRATIC in possible else LINEAR
    if CUBIC in possible:
        gained = errors[QUADRATIC] ** 2 - errors[CUBIC] ** 2
        if gained.mean() > 2 * gained.std(ddof=1) / math.sqrt(len(gained)):
            chosen = CUBIC
    validation = tuple((model, float(np.sqrt((error**2).mean()))) for model, error in errors.items())
    return _fit(data, chosen, "" if chosen != LINEAR else models[QUADRATIC], validation, metric, budget)


@dataclass(frozen=True, slots=True)
class _Data:
    """Shares (N, 3), logarithms of macs ratio ÷ budget (N,), candidate means (N,), numbers of seeds (N,).

    `phi` (N,) are the candidates' levels.
    """

    shares: FloatArray
    log_ratio: FloatArray
    response: FloatArray
    weights: FloatArray
    phi: FloatArray

    @property
    def further_levels(self) -> FloatArray:
        """The levels (L − 1,) but for the lowest."""
        return np.asarray(np.unique(self.phi)[1:])

    @property
    def levels(self) -> FloatArray:
        """Indicators (N, L − 1) of the further levels."""
        return np.asarray(self.phi[:, None] == self.further_levels, float)

    def levels_p(self, shared: RegressionResultsWrapper, mixture: FloatArray, design: FloatArray) -> float | None:
        """P of the shares' terms being the same in all levels, given the fit that takes them for the same."""
        each = [mixture * level[:, None] for level in self.levels.T]
        full = np.column_stack([design, *each])
        rank = int(np.linalg.matrix_rank(full, tol=1e-6))
        more, left = rank - design.shape[1], len(full) - rank
        if more < 1 or left < 1:
            return None
        roots = np.sqrt(self.weights)
        fitted = full @ np.linalg.lstsq(full * roots[:, None], self.response * roots, rcond=1e-9)[0]
        own_ss = float((self.weights * (self.response - fitted) ** 2).sum())
        return f_test(float(shared.ssr), own_ss, more, left)[1]

    def why_not(self, model: str) -> str:
        """Why `model` cannot be fitted; empty where it can."""
        mixture = _mixture(self.shares, TERMS[model])
        distinct = len(np.unique(self.shares.round(9), axis=0))
        needed = mixture.shape[1] + 2 + self.levels.shape[1]  # the covariate, and a degree of freedom for the error
        if distinct < needed:
            return f"the {model} model needs {needed} distinct candidates, but {distinct} finished"
        if np.linalg.matrix_rank(mixture, tol=1e-6) < mixture.shape[1]:
            return f"the {distinct} distinct candidates do not span the {model} model"
        return ""

    def covariate_note(self, model: str) -> str:
        """Why the macs ratio is not among the terms; empty where it is."""
        if np.ptp(self.log_ratio) < _NO_VARIATION:
            return "macs ratio left out: all candidates cost the same"
        known = np.column_stack([_mixture(self.shares, TERMS[model]), self.levels])
        explained = known @ np.linalg.lstsq(known, self.log_ratio, rcond=None)[0]
        if np.abs(self.log_ratio - explained).max() < _NO_VARIATION:
            return "macs ratio left out: it follows from the shares"
        return ""

    def with_covariates(self, columns: FloatArray, model: str) -> FloatArray:
        """`columns`, those of the levels and, where it is among the terms of `model`, the macs ratio's."""
        ratio = [] if self.covariate_note(model) else [self.log_ratio]
        return np.column_stack([columns, self.levels, *ratio])

    def left_out_errors(self, model: str) -> FloatArray:
        """Errors (N,) of predicting each candidate by a fit without it, from the leverages of the whole fit."""
        roots = np.sqrt(self.weights)
        design = self.with_covariates(_mixture(self.shares, TERMS[model]), model) * roots[:, None]
        q, _ = np.linalg.qr(design)
        residuals = self.response * roots - q @ (q.T @ (self.response * roots))
        leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-9)  # at 1 a candidate is all that determines some term
        return np.asarray(residuals / (1 - leverage) / roots)


def _fit(
    data: _Data, model: str, note: str, validation: tuple[tuple[str, float], ...], metric: str, budget: float
) -> SurfaceFit:
    mixture = _mixture(data.shares, TERMS[model])
    design = data.with_covariates(mixture, model)
    constant = data.with_covariates(np.ones((len(mixture), 1)), model)
    result = WLS(data.response, design, weights=data.weights, hasconst=True).fit()
    reduced = WLS(data.response, constant, weights=data.weights, hasconst=True).fit()
    f, p = f_test(float(reduced.ssr), float(result.ssr), mixture.shape[1] - 1, int(result.df_resid))
    varies = result.centered_tss > 0
    with np.errstate(divide="ignore", invalid="ignore"):  # a candidate that alone determines a term has no error
        robust = result.get_robustcov_results("HC3").bse
    return SurfaceFit(
        metric=metric,
        budget=budget,
        model=model,
        model_note=note,
        covariate_note=data.covariate_note(model),
        terms=(
            *_NAMES_OF_TERMS[: TERMS[model]],
            *(f"φ = {phi:g}" for phi in data.further_levels),
            *([] if data.covariate_note(model) else [COVARIATE]),
        ),
        coefficients=tuple(map(float, result.params)),
        standard_errors=tuple(map(float, result.bse)),
        robust_errors=tuple(map(float, robust)),
        covariance=tuple(tuple(map(float, row)) for row in result.cov_params()),
        r2=float(result.rsquared) if varies else 0.0,
        adjusted_r2=float(result.rsquared_adj) if varies else 0.0,
        residual_sd=math.sqrt(result.scale),
        residual_df=int(result.df_resid),
        f=f,
        p=p,
        n=len(data.response),
        validation=validation,
        levels_p=data.levels_p(result, mixture, design),
    )


def f_test(reduced_ss: float, full_ss: float, df: int, residual_df: int) -> tuple[float, float]:
    """F and p of `df` terms from the residual sums of squares of the models without and with them.

    A full model that fits to rounding error has F = ∞ and p = 0 where the reduced one does not, else F = 0, p = 1.
    """
    gained = max(reduced_ss - full_ss, 0.0)
    if full_ss <= 1e-20 * max(reduced_ss, 1e-300) or full_ss < 1e-28:
        return (math.inf, 0.0) if gained > 1e-24 else (0.0, 1.0)
    f = (gained / df) / (full_ss / residual_df)
    return f, float(f_distribution.sf(f, df, residual_df))
