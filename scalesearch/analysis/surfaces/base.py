"""Response surfaces over the shares: what all have in common, and Scheffé's mixture polynomials."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

FloatArray = NDArray[np.float64]

PAIRS = tuple(combinations(range(3), 2))
COVARIATE = "ln(macs ratio / budget)"
LINEAR, QUADRATIC, CUBIC = "Scheffé linear", "Scheffé quadratic", "Scheffé special cubic"
TERMS = {LINEAR: 3, QUADRATIC: 6, CUBIC: 7}


class InsufficientTrials(Exception):
    """Too few finished candidates for what was asked; the message says how many there are and are needed."""


@dataclass(frozen=True, slots=True)
class Surface(ABC):
    """A metric over the shares, as `n` candidates tell it. Units are the metric's.

    `model` is its name; `model_note` and `covariate_note` say why another model or a term is not there (empty where
    nothing is to be said). `residual_sd` is that of one seed's result (weights are numbers of seeds), lack of fit
    included, `residual_df` what is left over behind it. `p` tests whether the shares explain anything, `levels_p`
    whether their part differs between levels φ (None where it cannot be judged). `left_out` (n,) are the errors of
    predicting each candidate without it, in the order of the table, `influence` (n,) the candidates' Cook's distances,
    and `validation` the root mean square error of leaving one out, by model tried.
    Source of the distances: Cook, "Detection of influential observation in linear regression", Technometrics 19 (1977).
    """

    metric: str
    budget: float
    model: str
    model_note: str
    covariate_note: str
    adjusted_r2: float
    residual_sd: float
    residual_df: float
    p: float
    n: int
    left_out: tuple[float, ...]
    influence: tuple[float, ...]
    validation: tuple[tuple[str, float], ...]
    levels_p: float | None

    @property
    def caveat(self) -> str:
        """What the surface's bounds take for granted, to be said behind their level."""
        return ""

    @abstractmethod
    def parameters(self) -> tuple[tuple[str, ...], Iterable[tuple[str, ...]]]:
        """The heading and the rows of the parameters' table."""

    @abstractmethod
    def predict(self, shares: ArrayLike) -> FloatArray:
        """Predictions (N,) at `shares` (N, 3) for networks that cost the budget exactly."""

    @abstractmethod
    def standard_error(self, shares: ArrayLike) -> FloatArray:
        """Standard errors (N,) of the predictions at `shares` (N, 3)."""

    @abstractmethod
    def with_error(self, variance: float, df: float) -> Self:
        """The same surface, its errors those of another `variance` of one seed's result, known by `df` degrees."""

    @abstractmethod
    def without(self, place: int) -> Self:
        """The surface of this model that the candidates but for the one at `place` give; only its course is right."""


@dataclass(frozen=True, slots=True)
class SurfaceFit(Surface):
    """y = Σ bᵢ xᵢ + Σ bᵢⱼ xᵢ xⱼ + b₁₂₃ x₁ x₂ x₃ + c · ln(macs ratio ÷ B) by weighted least squares on candidate means.

    `model` is "Scheffé linear" (the first sum), "Scheffé quadratic" (the second too) or "Scheffé special cubic" (all).
    With several levels φ each further one has a term of its own, how far all of it lies from the first.
    `terms`, `coefficients`, `standard_errors`, `robust_errors` and `covariance` run alike, and so does each of the
    `shifts` (n, terms), what a candidate adds to the coefficients. `f`, `p` test the shares' terms against a constant,
    the covariate being in both. The robust errors allow each candidate a variance of its own (HC3). They are those
    robust to clusters, too, the seeds of a candidate being a cluster: the jackknife that leaves out one candidate with
    all its seeds (CV3, there with a factor of (n − 1) ÷ n) is HC3 on the means, whether or not all have the same seeds.
    Source: MacKinnon, Nielsen and Webb, "Leverage, influence, and the jackknife in clustered regression models",
    Stata J. 23 (2023), arXiv:2205.03288.
    """

    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    standard_errors: tuple[float, ...]
    robust_errors: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    shifts: tuple[tuple[float, ...], ...]
    r2: float
    f: float

    def parameters(self) -> tuple[tuple[str, ...], Iterable[tuple[str, ...]]]:
        """The terms, their coefficients and both errors."""
        rows = zip(self.terms, self.coefficients, self.standard_errors, self.robust_errors, strict=True)
        return (
            ("term", "coefficient", "standard error", "robust error (HC3)"),
            ((term, *(f"{value:.4f}" for value in values)) for term, *values in rows),
        )

    def predict(self, shares: ArrayLike) -> FloatArray:
        """Σ over the shares' terms alone."""
        return np.asarray(self.mixture(shares) @ self.mixture_coefficients[0])

    def standard_error(self, shares: ArrayLike) -> FloatArray:
        """Of least squares: √(t V tᵀ) for the terms t and their covariance V."""
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
        return mixture_terms(np.asarray(shares, float), len(self.mixture_coefficients[0]))

    def with_error(self, variance: float, df: float) -> Self:
        """Errors grow with the root of the variance; coefficients, F and p stay.

        On a flat surface F by the pooled error would err in up to 10 % of studies, not in 5 %, where candidates
        deviate on their own (12 candidates, by as much as the noise of a mean).
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

    def without(self, place: int) -> Self:
        """Exact, without another fit: by the candidate's shift."""
        shift = self.shifts[place]
        return replace(self, coefficients=tuple(b - s for b, s in zip(self.coefficients, shift, strict=True)))

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


def mixture_terms(shares: FloatArray, terms: int) -> FloatArray:
    """The first `terms` of those of the special cubic model: 3 are linear, 6 quadratic, 7 all."""
    products = [*(shares[:, i] * shares[:, j] for i, j in PAIRS), shares.prod(axis=1)]
    return np.column_stack([shares, *products[: terms - 3]])


def f_test(reduced_ss: float, full_ss: float, df: int, residual_df: int) -> tuple[float, float]:
    """F and p of `df` terms from the residual sums of squares of the models without and with them.

    A full model that fits to rounding error has F = ∞ and p = 0 where the reduced one does not, else F = 0, p = 1.
    """
    gained = max(reduced_ss - full_ss, 0.0)
    if full_ss <= 1e-20 * max(reduced_ss, 1e-300) or full_ss < 1e-28:
        return (math.inf, 0.0) if gained > 1e-24 else (0.0, 1.0)
    f = (gained / df) / (full_ss / residual_df)
    return f, float(f_distribution.sf(f, df, residual_df))
