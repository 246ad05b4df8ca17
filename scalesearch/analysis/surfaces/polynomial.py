"""The fit of a response surface: Scheffé's polynomials by least squares, chosen by cross-validation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import (  # not statsmodels.api, which imports plots and data sets
    WLS,
    RegressionResultsWrapper,
)

from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.surfaces.base import (
    COVARIATE,
    CUBIC,
    LINEAR,
    PAIRS,
    QUADRATIC,
    TERMS,
    FloatArray,
    InsufficientTrials,
    SurfaceFit,
    f_test,
    mixture_terms,
)
from scalesearch.analysis.tables import finished_candidates
from scalesearch.scaling.simplex import NAMES

_NAMES_OF_TERMS = (*NAMES, *(f"{NAMES[i]}·{NAMES[j]}" for i, j in PAIRS), "·".join(NAMES))
# Own variation of ln(macs ratio) below which nothing can be learnt from it: a millionth of the macs.
_NO_VARIATION = 1e-6


def fit_surface(candidates: pd.DataFrame, budget: float, metric: str) -> SurfaceFit:
    """The surface of `metric` over the realised shares of the finished candidates, weighted by their seeds.

    `candidates` has `tables.CANDIDATE_COLUMNS`. A model can be fitted where the distinct shares are more than its
    terms and determine them. The quadratic one is taken, or the special cubic where it predicts candidates left
    out better, by more than two standard errors of the difference; the linear one, whose optimum is always a
    corner, only where the quadratic cannot be fitted. The covariate is left out where the macs do not
    vary on their own, and where its slope has the wrong sign. Raises `InsufficientTrials` where not even the linear
    model can be fitted.
    Source: Scheffé, "Experiments with mixtures", J. R. Stat. Soc. B 20 (1958).
    """
    data = surface_data(candidates, budget, metric)
    models = {model: data.why_not(model) for model in TERMS}
    possible = [model for model, why in models.items() if not why]
    if not possible:
        raise InsufficientTrials(f"no surface can be fitted: {models[QUADRATIC]}; {models[LINEAR]}")
    errors = {model: data.left_out(model)[0] for model in possible}
    chosen = QUADRATIC if QUADRATIC in possible else LINEAR
    if CUBIC in possible and clearly_better(errors[CUBIC], errors[QUADRATIC]):
        chosen = CUBIC
    validation = tuple((model, root_mean_square(error)) for model, error in errors.items())
    return _fit(data, chosen, "" if chosen != LINEAR else models[QUADRATIC], validation, metric, budget)


def clearly_better(rival: FloatArray, errors: FloatArray) -> bool:
    """Whether a rival's errors (N,) in predicting candidates left out are the lesser: by two standard errors."""
    gained = errors**2 - rival**2
    return bool(gained.mean() > 2 * gained.std(ddof=1) / math.sqrt(len(gained)))


def root_mean_square(errors: FloatArray) -> float:
    """√ of the mean square of `errors` (N,)."""
    return float(np.sqrt((errors**2).mean()))


def surface_data(candidates: pd.DataFrame, budget: float, metric: str) -> SurfaceData:
    """What a surface of `metric` is fitted to: the finished ones of `candidates`, in the table's order."""
    done = finished_candidates(candidates, metric)
    phi = done["phi"].to_numpy(float)
    return SurfaceData(
        done[[f"{name}_share" for name in NAMES]].to_numpy(float),
        np.log(done["macs_ratio"].to_numpy(float)) - phi * math.log(budget),
        done[metric].to_numpy(float),
        done["seeds"].to_numpy(float),
        phi,
        metric_of(metric).maximise,
    )


@dataclass(frozen=True, slots=True)
class SurfaceData:
    """Shares (N, 3), logarithms of macs ratio ÷ budget (N,), candidate means (N,), numbers of seeds (N,).

    `phi` (N,) are the candidates' levels; `maximise` says that a greater response is better.
    """

    shares: FloatArray
    log_ratio: FloatArray
    response: FloatArray
    weights: FloatArray
    phi: FloatArray
    maximise: bool

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
        mixture = mixture_terms(self.shares, TERMS[model])
        distinct = len(np.unique(self.shares.round(9), axis=0))
        needed = mixture.shape[1] + 2 + self.levels.shape[1]  # the covariate, and a degree of freedom for the error
        if distinct < needed:
            return f"the {model} model needs {needed} candidates of distinct shares, but {distinct} are there"
        if np.linalg.matrix_rank(mixture, tol=1e-6) < mixture.shape[1]:
            return f"the {distinct} distinct candidates do not span the {model} model"
        return ""

    def covariate_note(self, model: str) -> str:
        """Why the macs ratio is not among the terms; empty where it is."""
        if np.ptp(self.log_ratio) < _NO_VARIATION:
            return "macs ratio left out: all candidates cost the same"
        known = np.column_stack([mixture_terms(self.shares, TERMS[model]), self.levels])
        explained = known @ np.linalg.lstsq(known, self.log_ratio, rcond=None)[0]
        if np.abs(self.log_ratio - explained).max() < _NO_VARIATION:
            return "macs ratio left out: it follows from the shares"
        roots = np.sqrt(self.weights)
        full = np.column_stack([known, self.log_ratio]) * roots[:, None]
        slope = float(np.linalg.lstsq(full, self.response * roots, rcond=None)[0][-1])
        if slope < 0 if self.maximise else slope > 0:
            return "macs ratio left out: in the fit more macs would do harm, more than the trials can show"
        return ""

    def with_covariates(self, columns: FloatArray, model: str) -> FloatArray:
        """`columns`, those of the levels and, where it is among the terms of `model`, the macs ratio's."""
        ratio = [] if self.covariate_note(model) else [self.log_ratio]
        return np.column_stack([columns, self.levels, *ratio])

    def left_out(self, model: str) -> tuple[FloatArray, FloatArray]:
        """Errors (N,) of predicting each candidate by a fit without it, and the leverages (N,) that give them."""
        roots = np.sqrt(self.weights)
        design = self.with_covariates(mixture_terms(self.shares, TERMS[model]), model) * roots[:, None]
        q, _ = np.linalg.qr(design)
        residuals = self.response * roots - q @ (q.T @ (self.response * roots))
        leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-9)  # at 1 a candidate is all that determines some term
        return np.asarray(residuals / (1 - leverage) / roots), leverage

    def influence(self, errors: FloatArray, leverage: FloatArray, variance: float) -> FloatArray:
        """Cook's distances (N,) from what `left_out` gives and the `variance` of one seed's result."""
        return np.asarray(self.weights * errors**2 * leverage / (leverage.sum() * max(variance, 1e-300)))


def _fit(
    data: SurfaceData, model: str, note: str, validation: tuple[tuple[str, float], ...], metric: str, budget: float
) -> SurfaceFit:
    mixture = mixture_terms(data.shares, TERMS[model])
    design = data.with_covariates(mixture, model)
    constant = data.with_covariates(np.ones((len(mixture), 1)), model)
    result = WLS(data.response, design, weights=data.weights, hasconst=True).fit()
    reduced = WLS(data.response, constant, weights=data.weights, hasconst=True).fit()
    f, p = f_test(float(reduced.ssr), float(result.ssr), mixture.shape[1] - 1, int(result.df_resid))
    varies = result.centered_tss > 0
    errors, leverage = data.left_out(model)
    shifts = design * (data.weights * errors)[:, None] @ result.normalized_cov_params
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
        shifts=tuple(tuple(map(float, row)) for row in shifts),
        r2=float(result.rsquared) if varies else 0.0,
        adjusted_r2=float(result.rsquared_adj) if varies else 0.0,
        residual_sd=math.sqrt(result.scale),
        residual_df=int(result.df_resid),
        f=f,
        p=p,
        n=len(data.response),
        left_out=tuple(map(float, errors)),
        influence=tuple(map(float, data.influence(errors, leverage, result.scale))),
        validation=validation,
        levels_p=data.levels_p(result, mixture, design),
    )
