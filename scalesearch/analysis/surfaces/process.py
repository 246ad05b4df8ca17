"""A Gaussian process over the shares: the surface where polynomials do not fit, and its optimum and region."""

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

from scalesearch.analysis.optimum import Optimum, extremes
from scalesearch.analysis.region import LEVEL, fine_lattice, in_region, regret_bound
from scalesearch.analysis.signal import SIGNIFICANT
from scalesearch.analysis.surfaces.base import FloatArray, Surface, SurfaceFit
from scalesearch.analysis.surfaces.polynomial import clearly_better, root_mean_square, surface_data
from scalesearch.scaling.simplex import lattice

MODEL = "Gaussian process"
# Surfaces drawn for the region, and the 990 places where each one's optimum is looked for.
DRAWS = 2_000
_STEPS = 43
_PLACES = np.array([point.values for point in lattice(_STEPS)])
# The optimum is looked for on the first lattice, then on ever finer ones around the best point so far.
_FINER = (100, 1_000, 10_000, 100_000)
# Bounds of ℓ in shares. What varies faster than candidates are apart cannot be told from their own deviations.
LENGTHS = (0.2, 10.0)
# Variance of the prior of the mean and of the covariates' coefficients, the response's own being 1: it says nothing.
_VAGUE = 1e4
# Added to the variance of each place drawn, the response's being 1: rounding leaves the matrix not quite positive.
_JITTER = 1e-7


@dataclass(frozen=True, eq=False)
class ProcessFit(Surface):
    """y = m + s(x) + c · ln(macs ratio ÷ B) + own deviation + seeds' error, s being a Gaussian process over the shares.

    Its covariance is Matérn's, σ² (1 + z + z²/3) exp(−z) with z = √5 r ÷ ℓ at a distance r in shares. The seeds' error
    has the variance of their pure error; σ², ℓ and the variance of candidates' own deviations are those of the
    greatest marginal likelihood, and leaving out keeps them. m, c and what each further level φ adds have priors that
    say nothing. Errors are Bayesian and ignore how well σ² and ℓ are known. `residual_df` is n less the trace of the
    smoother. `p` is that of the likelihood ratio against a surface without s (χ² with 2 degrees of freedom, for σ² and
    ℓ; rather too large, as σ² = 0 is at a bound). `levels_p` is the polynomial's. `regressor` works on shares and
    covariates, in units of `scale` around `centre`.
    Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, §2.7 and §5.4.
    """

    regressor: GaussianProcessRegressor
    centre: float
    scale: float

    def parameters(self) -> tuple[tuple[str, ...], Iterable[tuple[str, ...]]]:
        """Length, deviation and the candidates' own deviation."""
        smooth = self.regressor.kernel_.k1.k1
        return ("parameter", "value"), (
            ("ℓ, in shares", f"{smooth.k2.length_scale:.2f}"),
            ("σ", f"{self.scale * math.sqrt(smooth.k1.constant_value):.4f}"),
            ("own deviation (sd)", f"{self.scale * math.sqrt(self._own):.4f}"),
        )

    def predict(self, shares: ArrayLike) -> FloatArray:
        """The mean of the process, covariates at 0."""
        return np.asarray(self.centre + self.scale * self.regressor.predict(self._inputs(shares)))

    def standard_error(self, shares: ArrayLike) -> FloatArray:
        """Its standard deviation, candidates' own deviations left out."""
        _, sd = self.regressor.predict(self._inputs(shares), return_std=True)
        return np.asarray(self.scale * np.sqrt(np.maximum(sd**2 - self._own, 0.0)))

    @property
    def caveat(self) -> str:
        """Its bounds are too narrow by what is not known of its length and variances."""
        return ", were the length of the process known"

    def with_error(self, variance: float, df: float) -> Self:
        """Itself: its error is that of the seeds already."""
        del variance, df
        return self

    def without(self, place: int) -> Self:
        """Conditioned on the others; σ², ℓ and the own variance stay."""
        known = self.regressor
        others = np.arange(self.n) != place
        fewer = GaussianProcessRegressor(known.kernel_, alpha=known.alpha[others], optimizer=None)
        return replace(self, regressor=fewer.fit(known.X_train_[others], known.y_train_[others]))

    @cached_property
    def drawn(self) -> FloatArray:
        """Surfaces (M, draws) drawn from the process given the candidates, at the places of the lattice."""
        mean, covariance = self.regressor.predict(self._inputs(_PLACES), return_cov=True)
        root = np.linalg.cholesky(covariance + (_JITTER - self._own) * np.eye(len(mean)))
        drawn = mean[:, None] + root @ np.random.default_rng(0).standard_normal((len(mean), DRAWS))
        return np.asarray(self.centre + self.scale * drawn)

    @cached_property
    def chances(self) -> FloatArray:
        """Of each place (M,) of the lattice, the chance (2, M) that the least and that the greatest value is there.

        By the surfaces drawn; a place is known no closer than a step of the lattice.
        """
        best = (self.drawn.argmin(axis=0), self.drawn.argmax(axis=0))
        counts = [np.bincount(places, minlength=len(_PLACES)) for places in best]
        near = np.exp(-((_PLACES[:, None] - _PLACES) ** 2).sum(axis=2) * _STEPS**2 / 2)
        return np.asarray(counts @ (near / near.sum(axis=0)).T / DRAWS)

    @property
    def _own(self) -> float:
        return float(self.regressor.kernel_.k2.noise_level)

    def _inputs(self, shares: ArrayLike) -> FloatArray:
        points = np.asarray(shares, float)
        return np.column_stack([points, np.zeros((len(points), self.regressor.n_features_in_ - 3))])


class _OfShares(Matern):  # type: ignore[misc]  # scikit-learn has no types
    """Matérn's kernel of the first three columns."""

    def __call__(self, X: FloatArray, Y: FloatArray | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        return super().__call__(X[:, :3], None if Y is None else Y[:, :3], eval_gradient)


class _OfCovariates(DotProduct):  # type: ignore[misc]  # scikit-learn has no types
    """The linear kernel of a constant and all but the first three columns."""

    def __call__(self, X: FloatArray, Y: FloatArray | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        return super().__call__(X[:, 3:], None if Y is None else Y[:, 3:], eval_gradient)

    def diag(self, X: FloatArray) -> Any:  # noqa: N803
        return super().diag(X[:, 3:])


def contender(fit: SurfaceFit, candidates: pd.DataFrame, variance: float) -> Surface:
    """A Gaussian process where it predicts candidates left out clearly better than the polynomial `fit`, else `fit`.

    It must explain something (p), too: the optimum of what may be a constant is nowhere. Arguments are those of
    `fit_process`. Both tell in their `validation` how well the process predicts.
    """
    process = fit_process(fit, candidates, variance)
    better = clearly_better(np.array(process.left_out), np.array(fit.left_out))
    return process if better and process.p < SIGNIFICANT else replace(fit, validation=process.validation)


def fit_process(fit: SurfaceFit, candidates: pd.DataFrame, variance: float) -> ProcessFit:
    """The process of the metric and with the covariates of `fit`, to whose table `candidates` it is fitted.

    `variance` is that of one seed's result within a candidate.
    """
    data = surface_data(candidates, fit.budget, fit.metric)
    centre, scale = float(data.response.mean()), float(data.response.std())
    inputs, response = data.with_covariates(data.shares, fit.model), (data.response - centre) / scale
    seeds = variance / data.weights / scale**2
    covariates = ConstantKernel(_VAGUE, "fixed") * _OfCovariates(1.0, "fixed")
    smooth = ConstantKernel(1.0, (1e-4, 1e4)) * _OfShares(0.5, LENGTHS, nu=2.5)
    own_deviation = WhiteKernel(0.01, (1e-6, 10.0))
    regressor, null = (
        GaussianProcessRegressor(kernel + own_deviation, alpha=seeds) for kernel in (smooth + covariates, covariates)
    )
    with warnings.catch_warnings():  # the likelihood may be greatest at a bound: no deviations of their own, say
        warnings.simplefilter("ignore", ConvergenceWarning)
        for process in (regressor, null):
            process.fit(inputs, response)
    own = regressor.kernel_.k2.noise_level
    inverse = np.diag(cho_solve((regressor.L_, True), np.eye(fit.n)))
    errors = scale * regressor.alpha_ / inverse
    kept = (seeds + own) * inverse  # 1 − leverage
    residuals = errors * kept
    residual_variance = float((data.weights * residuals**2).sum() / kept.sum())
    total = float((data.weights * (data.response - np.average(data.response, weights=data.weights)) ** 2).sum())
    gained = regressor.log_marginal_likelihood_value_ - null.log_marginal_likelihood_value_
    return ProcessFit(
        metric=fit.metric,
        budget=fit.budget,
        model=MODEL,
        model_note=f"candidates deviate from the {fit.model} model, which predicts them worse when they are left out",
        covariate_note=fit.covariate_note,
        adjusted_r2=1 - residual_variance / (total / (fit.n - 1)),
        residual_sd=math.sqrt(residual_variance),
        residual_df=float(kept.sum()),
        p=float(chi2.sf(2 * max(gained, 0.0), 2)),
        n=fit.n,
        left_out=tuple(map(float, errors)),
        influence=tuple(map(float, data.influence(errors, 1 - kept, residual_variance))),
        validation=(*fit.validation, (MODEL, root_mean_square(errors))),
        levels_p=fit.levels_p,
        regressor=regressor,
        centre=centre,
        scale=scale,
    )


@extremes.register
def _(fit: ProcessFit, maximise: bool) -> FloatArray:
    """The best point of a lattice, then of ever finer ones around it."""
    low, high = np.zeros(3), np.ones(3)
    for steps in _FINER:
        points = fine_lattice(steps, low, high)
        values = fit.predict(points)
        best = points[(values.argmax if maximise else values.argmin)()]
        low, high = best - 2 / steps, best + 2 / steps
    return np.asarray(best[None])


@in_region.register
def _(fit: ProcessFit, points: FloatArray, maximise: bool, level: float = LEVEL) -> NDArray[np.bool_]:
    """Those next to a place of the smallest set that the optimum is in with a chance of `level`."""
    chances = fit.chances[int(maximise)]
    order = chances.argsort(kind="stable")[::-1]
    inside = np.zeros(len(order), bool)
    inside[order[: int(np.searchsorted(chances[order].cumsum(), level)) + 1]] = True
    return np.asarray(inside[KDTree(_PLACES).query(points)[1]])


@regret_bound.register
def _(fit: ProcessFit, best: Optimum, points: FloatArray, maximise: bool, level: float = LEVEL) -> float:
    """What the place next to the optimum loses to the best one is not more in so many of the surfaces drawn."""
    del points
    drawn = -fit.drawn if maximise else fit.drawn
    own = drawn[KDTree(_PLACES).query(best.shares.values)[1]]
    return float(np.quantile(own - drawn.min(axis=0), level))
