"""The choice of a surface: which kind it is, and with which error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution

from scalesearch.analysis.comparison import TwoWay
from scalesearch.analysis.statistics import SIGNIFICANT, clearly_better
from scalesearch.analysis.surfaces.base import InsufficientTrials, Surface
from scalesearch.analysis.surfaces.mixture import LINEAR
from scalesearch.analysis.surfaces.polynomial import Polynomial, fit_polynomial

# Above this p value of the lack of fit, the errors of the surface and of the seeds count as equal and are pooled: more
# degrees of freedom. Source: Bancroft, "Analysis and inference for incompletely specified models", Biometrics 20
# (1964).
_POOLED = 0.25
# Numbers of candidates for which alternatives are fitted. A Gaussian process has three parameters to estimate, from
# five candidates each; with more than 300 candidates it takes seconds.
SIZES = range(15, 301)

# Fits another kind of surface: to the table of candidates that the polynomial was fitted to, with the variance of one
# seed's result within a candidate.
Alternative = Callable[[Polynomial, pd.DataFrame, float], Surface]


def alternatives() -> tuple[Alternative, ...]:
    """The kinds of surface that are tried when the polynomial does not fit, in order."""
    from scalesearch.analysis.surfaces.process import fit_process  # loads scikit-learn

    return (fit_process,)


def select_surface(
    candidates: pd.DataFrame, budget: float, metric: str, model: TwoWay, sizes: range = SIZES
) -> tuple[Surface, float | None]:
    """The surface that the candidates support, and the p value of its lack of fit (None if it cannot be judged).

    It is a polynomial. If candidates deviate from it by more than seed noise, alternatives are tried; one is taken if
    it predicts left-out candidates clearly better. If there is no lack of fit, the surface's error is pooled with the
    seeds'.

    Args:
        candidates: a table with `tables.CANDIDATE_COLUMNS`.
        budget: the study's budget B.
        metric: name of the metric.
        model: the two-way model of the same runs, for the seeds' error.
        sizes: numbers of candidates for which alternatives are fitted.

    Raises:
        InsufficientTrials: if there are too few candidates for a surface with an optimum inside the triangle.
    """
    polynomial = fit_polynomial(candidates, budget, metric)
    if polynomial.model == LINEAR:
        raise InsufficientTrials(f"{polynomial.model_note} (a linear surface always has its optimum in a corner)")
    surface: Surface = polynomial
    p = lack_of_fit(polynomial, model)
    if model.error_variance is not None and p is not None and p < SIGNIFICANT:
        if polynomial.n in sizes:
            surface = best_of(polynomial, candidates, model.error_variance)
            p = lack_of_fit(surface, model)
        elif polynomial.n >= sizes.stop:
            most = sizes.stop - 1
            surface = replace(polynomial, model_note=f"other surfaces are not fitted to more than {most} candidates")
    return (_pooled(surface, model) if p is not None and p > _POOLED else surface), p


def best_of(polynomial: Polynomial, candidates: pd.DataFrame, error_variance: float) -> Surface:
    """The polynomial, or an alternative that predicts left-out candidates clearly better.

    An alternative must also explain something (p): what may be a constant has no optimum. The `validation` of the
    result lists all of them. Arguments are those of an `Alternative`.
    """
    surface: Surface = polynomial
    for fit in alternatives():
        challenger = fit(polynomial, candidates, error_variance)
        validation = (*surface.validation, *challenger.validation)
        better = clearly_better(np.array(challenger.left_out), np.array(surface.left_out))
        surface = replace(challenger if better and challenger.p < SIGNIFICANT else surface, validation=validation)
    return surface


def lack_of_fit(surface: Surface, model: TwoWay) -> float | None:
    """P value of the surface's residual variance against the pure error of the seeds; None without such an error."""
    if not model.error_variance:
        return None
    f = surface.residual_sd**2 / model.error_variance
    return float(f_distribution.sf(f, surface.residual_df, model.error_df))


def _pooled(surface: Surface, model: TwoWay) -> Surface:
    """The surface with the pooled variance of its residuals and of the seeds."""
    if model.error_variance is None or surface.residual_sd == 0:
        return surface  # nothing to pool
    df = surface.residual_df + model.error_df
    total = surface.residual_sd**2 * surface.residual_df + model.error_variance * model.error_df
    return surface.with_error(total / df, df)
