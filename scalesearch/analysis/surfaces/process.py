"""A Gaussian process as response surface, for metrics that no mixture polynomial follows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve
from scipy.spatial import KDTree
from scipy.stats import chi2
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

from scalesearch.analysis.statistics import LEVEL, FloatArray, root_mean_square
from scalesearch.analysis.surfaces.base import Surface
from scalesearch.analysis.surfaces.data import surface_data
from scalesearch.analysis.surfaces.lattices import lattice_between
from scalesearch.analysis.surfaces.polynomial import Polynomial
from scalesearch.scaling.simplex import Shares, lattice

MODEL = "Gaussian process"
# Number of surfaces that are drawn for the region, on a lattice of 990 points.
DRAWS = 2_000
_STEPS = 43
_PLACES = np.array([point.values for point in lattice(_STEPS)])
# The optimum is searched on the first of these lattices, then on finer ones around the best point so far.
_FINER = (100, 1_000, 10_000, 100_000)
# Bounds of ℓ in shares. Variation over less than the spacing of the candidates looks like deviations of single ones.
LENGTHS = (0.2, 10.0)
# Prior variance of the mean and of the covariates' coefficients, if the response has variance 1: uninformative.
_VAGUE = 1e4
# Added to the variance of each drawn place, if the response has variance 1: the matrix becomes positive definite.
_JITTER = 1e-7


@dataclass(frozen=True, eq=False)
class Process(Surface):
    """y = m + s(x) + c · ln(macs ratio ÷ B) + candidate's deviation + seed noise; s is a Gaussian process.

    The covariance of s is Matérn's, σ² (1 + z + z²/3) exp(−z) with z = √5 r ÷ ℓ at a distance r in shares. Seed noise
    has the variance of the pure error. σ², ℓ and the variance of the candidates' deviations maximise the marginal
    likelihood, and leaving a candidate out keeps them. m, c and the constants of further levels φ have uninformative
    priors. Errors are Bayesian, given σ² and ℓ. `residual_df` is n minus the trace of the smoother. `p` is that of the
    likelihood ratio against a surface without s (χ² with 2 degrees of freedom, for σ² and ℓ; conservative, since
    σ² = 0 is at a bound). `levels_p` is the polynomial's.
    Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, §2.7 and §5.4.

    Attributes:
        regressor: the fitted process, on shares and covariates, in units of `scale` around `centre`.
        centre: mean of the response.
        scale: standard deviation of the response.
    """

    regressor: GaussianProcessRegressor
    centre: float
    scale: float

    def parameters(self) -> tuple[tuple[str, ...], Iterable[tuple[str, ...]]]:
        """Length, standard deviation, and the candidates' deviation."""
        smooth = self.regressor.kernel_.k1.k1
        return ("parameter", "value"), (
            ("ℓ, in shares", f"{smooth.k2.length_scale:.2f}"),
            ("σ", f"{self.scale * math.sqrt(smooth.k1.constant_value):.4f}"),
            ("deviation of a candidate (sd)", f"{self.scale * math.sqrt(self._deviation):.4f}"),
        )

    def predict(self, shares: ArrayLike) -> FloatArray:
        """The mean of the process, with covariates at 0."""
        return np.asarray(self.centre + self.scale * self.regressor.predict(self._inputs(shares)))

    def standard_error(self, shares: ArrayLike) -> FloatArray:
        """The standard deviation of the process, without the candidates' deviations."""
        _, sd = self.regressor.predict(self._inputs(shares), return_std=True)
        return np.asarray(self.scale * np.sqrt(np.maximum(sd**2 - self._deviation, 0.0)))

    @property
    def caveat(self) -> str:
        """The bounds are too narrow, because the length and the variances are estimates."""
        return ", given the fitted length scale"

    def with_error(self, variance: float, df: float) -> Self:
        """The same surface: its errors already come from the seeds."""
        del variance, df
        return self

    def without(self, index: int) -> Self:
        """Conditioned on the other candidates; σ², ℓ and the variance of deviations stay."""
        fitted = self.regressor
        others = np.arange(self.n) != index
        fewer = GaussianProcessRegressor(fitted.kernel_, alpha=fitted.alpha[others], optimizer=None)
        return replace(self, regressor=fewer.fit(fitted.X_train_[others], fitted.y_train_[others]))

    def optimum_candidates(self, maximise: bool) -> FloatArray:
        """The best point of a lattice, refined on ever finer lattices around it."""
        low, high = np.zeros(3), np.ones(3)
        for steps in _FINER:
            points = lattice_between(steps, low, high)
            values = self.predict(points)
            best = points[(values.argmax if maximise else values.argmin)()]
            low, high = best - 2 / steps, best + 2 / steps
        return np.asarray(best[None])

    def may_be_optimum(self, shares: FloatArray, maximise: bool, level: float = LEVEL) -> NDArray[np.bool_]:
        """Those next to a place of the smallest set of places that holds the optimum with probability `level`."""
        chances = self.chances[int(maximise)]
        order = chances.argsort(kind="stable")[::-1]
        inside = np.zeros(len(order), bool)
        inside[order[: int(np.searchsorted(chances[order].cumsum(), level)) + 1]] = True
        return np.asarray(inside[KDTree(_PLACES).query(shares)[1]])

    def regret_bound(self, best: Shares, region: FloatArray, maximise: bool, level: float = LEVEL) -> float:
        """The quantile at `level`, over the drawn surfaces, of what the place next to `best` loses to the best one."""
        del region
        drawn = -self.drawn if maximise else self.drawn
        at_best = drawn[KDTree(_PLACES).query(best.values)[1]]
        return float(np.quantile(at_best - drawn.min(axis=0), level))

    @cached_property
    def drawn(self) -> FloatArray:
        """Surfaces (places, draws) drawn from the process given the candidates, at the places of the lattice."""
        mean, covariance = self.regressor.predict(self._inputs(_PLACES), return_cov=True)
        root = np.linalg.cholesky(covariance + (_JITTER - self._deviation) * np.eye(len(mean)))
        drawn = mean[:, None] + root @ np.random.default_rng(0).standard_normal((len(mean), DRAWS))
        return np.asarray(self.centre + self.scale * drawn)

    @cached_property
    def chances(self) -> FloatArray:
        """For each place of the lattice the probabilities (2, places) that it has the least and the greatest value.

        From the drawn surfaces, smoothed over a step of the lattice.
        """
        best = (self.drawn.argmin(axis=0), self.drawn.argmax(axis=0))
        counts = [np.bincount(places, minlength=len(_PLACES)) for places in best]
        near = np.exp(-((_PLACES[:, None] - _PLACES) ** 2).sum(axis=2) * _STEPS**2 / 2)
        return np.asarray(counts @ (near / near.sum(axis=0)).T / DRAWS)

    @property
    def _deviation(self) -> float:
        """Variance of the candidates' deviations, in units of the response's variance."""
        return float(self.regressor.kernel_.k2.noise_level)

    def _inputs(self, shares: ArrayLike) -> FloatArray:
        points = np.asarray(shares, float)
        return np.column_stack([points, np.zeros((len(points), self.regressor.n_features_in_ - 3))])


class _OfShares(Matern):  # type: ignore[misc]  # scikit-learn has no types
    """Matérn's kernel on the first three columns."""

    def __call__(self, X: FloatArray, Y: FloatArray | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        return super().__call__(X[:, :3], None if Y is None else Y[:, :3], eval_gradient)


class _OfCovariates(DotProduct):  # type: ignore[misc]  # scikit-learn has no types
    """The linear kernel on a constant and all columns but the first three."""

    def __call__(self, X: FloatArray, Y: FloatArray | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        return super().__call__(X[:, 3:], None if Y is None else Y[:, 3:], eval_gradient)

    def diag(self, X: FloatArray) -> Any:  # noqa: N803
        return super().diag(X[:, 3:])


def fit_process(polynomial: Polynomial, candidates: pd.DataFrame, error_variance: float) -> Process:
    """A Gaussian process for the metric of `polynomial`, with the same covariates.

    Args:
        polynomial: the polynomial that was fitted to the same table.
        candidates: a table with `tables.CANDIDATE_COLUMNS`.
        error_variance: variance of one seed's result within a candidate.
    """
    data = surface_data(candidates, polynomial.budget, polynomial.metric)
    centre, scale = float(data.response.mean()), float(data.response.std())
    inputs, response = data.with_covariates(data.shares, polynomial.model), (data.response - centre) / scale
    noise = error_variance / data.weights / scale**2

    # The process, and the same without an effect of the shares.
    covariates = ConstantKernel(_VAGUE, "fixed") * _OfCovariates(1.0, "fixed")
    smooth = ConstantKernel(1.0, (1e-4, 1e4)) * _OfShares(0.5, LENGTHS, nu=2.5)
    deviations = WhiteKernel(0.01, (1e-6, 10.0))
    regressor, null = (
        GaussianProcessRegressor(kernel + deviations, alpha=noise) for kernel in (smooth + covariates, covariates)
    )
    with warnings.catch_warnings():  # the maximum may be at a bound: no deviations, for example
        warnings.simplefilter("ignore", ConvergenceWarning)
        for process in (regressor, null):
            process.fit(inputs, response)
    gained = regressor.log_marginal_likelihood_value_ - null.log_marginal_likelihood_value_

    # Leave-one-out errors and residuals from the inverse of the covariance.
    inverse = np.diag(cho_solve((regressor.L_, True), np.eye(polynomial.n)))
    errors = scale * regressor.alpha_ / inverse
    not_leverage = (noise + regressor.kernel_.k2.noise_level) * inverse  # 1 − leverage
    residuals = errors * not_leverage
    residual_variance = float((data.weights * residuals**2).sum() / not_leverage.sum())
    total = float((data.weights * (data.response - np.average(data.response, weights=data.weights)) ** 2).sum())
    return Process(
        metric=polynomial.metric,
        budget=polynomial.budget,
        model=MODEL,
        model_note=f"candidates deviate from the {polynomial.model} model, which predicts left-out candidates worse",
        covariate_note=polynomial.covariate_note,
        adjusted_r2=1 - residual_variance / (total / (polynomial.n - 1)),
        residual_sd=math.sqrt(residual_variance),
        residual_df=float(not_leverage.sum()),
        p=float(chi2.sf(2 * max(gained, 0.0), 2)),
        n=polynomial.n,
        left_out=tuple(map(float, errors)),
        influence=tuple(map(float, data.influence(errors, 1 - not_leverage, residual_variance))),
        validation=((MODEL, root_mean_square(errors)),),
        levels_p=polynomial.levels_p,
        regressor=regressor,
        centre=centre,
        scale=scale,
    )
