"""The data that a surface is fitted to, and what every kind of fit derives from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scalesearch.analysis.metrics import metric_of
from scalesearch.analysis.statistics import FloatArray, f_test
from scalesearch.analysis.surfaces.mixture import TERMS, mixture_terms
from scalesearch.analysis.tables import SHARE_COLUMNS, finished_candidates

# If ln(macs ratio) varies by less than this apart from the shares, its effect cannot be estimated: a millionth of the
# macs.
_NO_VARIATION = 1e-6


@dataclass(frozen=True, slots=True)
class SurfaceData:
    """The finished candidates of a study, one entry each, in the order of the candidates' table.

    Attributes:
        metric: name of the metric.
        budget: the study's budget B.
        shares: shares of real cost (N, 3).
        log_ratio: ln(macs ratio ÷ budget of the level) (N,).
        response: mean of the metric over the seeds (N,).
        weights: numbers of seeds (N,).
        phi: levels φ (N,).
    """

    metric: str
    budget: float
    shares: FloatArray
    log_ratio: FloatArray
    response: FloatArray
    weights: FloatArray
    phi: FloatArray

    @property
    def further_levels(self) -> FloatArray:
        """All levels (L − 1,) except the lowest."""
        return np.asarray(np.unique(self.phi)[1:])

    @property
    def level_columns(self) -> FloatArray:
        """Indicators (N, L − 1) of the further levels."""
        return np.asarray(self.phi[:, None] == self.further_levels, float)

    def why_not(self, model: str) -> str:
        """Why the mixture polynomial `model` cannot be fitted; empty if it can."""
        mixture = mixture_terms(self.shares, TERMS[model])
        distinct = len(np.unique(self.shares.round(9), axis=0))
        # Besides the terms: the covariate, one degree of freedom for the error, and a term for each further level.
        needed = mixture.shape[1] + 2 + self.level_columns.shape[1]
        if distinct < needed:
            return f"the {model} model needs {needed} candidates with distinct shares, but got {distinct}"
        if np.linalg.matrix_rank(mixture, tol=1e-6) < mixture.shape[1]:
            return f"the {distinct} distinct candidates do not span the {model} model"
        return ""

    def covariate_note(self, model: str) -> str:
        """Why the macs ratio is not a term besides those of `model`; empty if it is one."""
        if np.ptp(self.log_ratio) < _NO_VARIATION:
            return "macs ratio omitted: all candidates cost the same"
        known = np.column_stack([mixture_terms(self.shares, TERMS[model]), self.level_columns])
        explained = known @ np.linalg.lstsq(known, self.log_ratio, rcond=None)[0]
        if np.abs(self.log_ratio - explained).max() < _NO_VARIATION:
            return "macs ratio omitted: it follows from the shares"
        roots = np.sqrt(self.weights)
        full = np.column_stack([known, self.log_ratio]) * roots[:, None]
        slope = float(np.linalg.lstsq(full, self.response * roots, rcond=None)[0][-1])
        if slope < 0 if metric_of(self.metric).maximise else slope > 0:
            return "macs ratio omitted: its fitted effect has the wrong sign (more macs would make the metric worse)"
        return ""

    def with_covariates(self, columns: FloatArray, model: str) -> FloatArray:
        """`columns` (N, q), those of the levels and, if `model` has it as a term, that of the macs ratio."""
        ratio = [] if self.covariate_note(model) else [self.log_ratio]
        return np.column_stack([columns, self.level_columns, *ratio])

    def leave_one_out(self, model: str) -> tuple[FloatArray, FloatArray]:
        """Errors (N,) of predicting each candidate by a fit without it, and the leverages (N,) that give them."""
        roots = np.sqrt(self.weights)
        design = self.with_covariates(mixture_terms(self.shares, TERMS[model]), model) * roots[:, None]
        q, _ = np.linalg.qr(design)
        residuals = self.response * roots - q @ (q.T @ (self.response * roots))
        leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-9)  # 1 if a candidate alone determines a term
        return np.asarray(residuals / (1 - leverage) / roots), leverage

    def influence(self, errors: FloatArray, leverage: FloatArray, variance: float) -> FloatArray:
        """Cook's distances (N,), from the results of `leave_one_out` and the `variance` of one seed's result."""
        return np.asarray(self.weights * errors**2 * leverage / (leverage.sum() * max(variance, 1e-300)))

    def levels_p(self, residual_ss: float, mixture: FloatArray, design: FloatArray) -> float | None:
        """P value of the terms `mixture` (N, q) having the same coefficients at all levels; None without a test.

        `residual_ss` is the residual sum of squares of the fit with common coefficients, whose columns are `design`.
        """
        separate = [mixture * level[:, None] for level in self.level_columns.T]
        full = np.column_stack([design, *separate])
        rank = int(np.linalg.matrix_rank(full, tol=1e-6))
        df, residual_df = rank - design.shape[1], len(full) - rank
        if df < 1 or residual_df < 1:
            return None
        roots = np.sqrt(self.weights)
        fitted = full @ np.linalg.lstsq(full * roots[:, None], self.response * roots, rcond=1e-9)[0]
        full_ss = float((self.weights * (self.response - fitted) ** 2).sum())
        return f_test(residual_ss, full_ss, df, residual_df)[1]


def surface_data(candidates: pd.DataFrame, budget: float, metric: str) -> SurfaceData:
    """The data of the finished `candidates` (a table with `tables.CANDIDATE_COLUMNS`)."""
    done = finished_candidates(candidates, metric)
    phi = done["phi"].to_numpy(float)
    return SurfaceData(
        metric=metric,
        budget=budget,
        shares=done[SHARE_COLUMNS].to_numpy(float),
        log_ratio=np.log(done["macs_ratio"].to_numpy(float)) - phi * math.log(budget),
        response=done[metric].to_numpy(float),
        weights=done["seeds"].to_numpy(float),
        phi=phi,
    )
