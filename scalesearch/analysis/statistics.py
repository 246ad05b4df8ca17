"""Levels and tests that the whole analysis shares."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

FloatArray = NDArray[np.float64]

# Confidence of all regions, intervals and bounds.
LEVEL = 0.95
# A p value below this is significant.
SIGNIFICANT = 0.05


def f_test(reduced_ss: float, full_ss: float, df: int, residual_df: int) -> tuple[float, float]:
    """F and p of `df` terms, from the residual sums of squares of the models without and with them.

    If the full model fits to rounding error, F = ∞ and p = 0 when the reduced model does not, else F = 0 and p = 1.

    >>> f_test(30.0, 10.0, 2, 8)[0]
    8.0
    """
    gained = max(reduced_ss - full_ss, 0.0)
    if full_ss <= 1e-20 * max(reduced_ss, 1e-300) or full_ss < 1e-28:
        return (math.inf, 0.0) if gained > 1e-24 else (0.0, 1.0)
    f = (gained / df) / (full_ss / residual_df)
    return f, float(f_distribution.sf(f, df, residual_df))


def root_mean_square(errors: FloatArray) -> float:
    """√ of the mean square of `errors` (N,).

    >>> root_mean_square(np.array([3.0, -3.0]))
    3.0
    """
    return float(np.sqrt((errors**2).mean()))


def clearly_better(challenger: FloatArray, incumbent: FloatArray) -> bool:
    """Whether the challenger predicts left-out candidates better, by two standard errors of the difference.

    Both arguments are errors (N,) of predicting the same candidates.

    >>> clearly_better(np.array([0.1, -0.1, 0.1]), np.array([1.0, -1.1, 0.9]))
    True
    """
    gained = incumbent**2 - challenger**2
    return bool(gained.mean() > 2 * gained.std(ddof=1) / math.sqrt(len(gained)))
