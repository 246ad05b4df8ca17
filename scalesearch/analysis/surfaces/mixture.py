"""Scheffé's mixture polynomials: their terms and the slopes of these.

Source: Scheffé, "Experiments with mixtures", J. R. Stat. Soc. B 20 (1958).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from scalesearch.analysis.statistics import FloatArray
from scalesearch.scaling.simplex import NAMES

LINEAR, QUADRATIC, CUBIC = "Scheffé linear", "Scheffé quadratic", "Scheffé special cubic"
# Model → its number of terms. Each model starts with the terms of the model before it.
TERMS = {LINEAR: 3, QUADRATIC: 6, CUBIC: 7}
# The pairs of shares whose products are terms, in order.
PAIRS = tuple(combinations(range(3), 2))
TERM_NAMES = (*NAMES, *(f"{NAMES[i]}·{NAMES[j]}" for i, j in PAIRS), "·".join(NAMES))


def mixture_terms(shares: FloatArray, terms: int) -> FloatArray:
    """The first `terms` terms (N, terms) of the special cubic model at `shares` (N, 3).

    >>> mixture_terms(np.array([[0.5, 0.25, 0.25]]), 7).tolist()
    [[0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.03125]]
    """
    products = [*(shares[:, i] * shares[:, j] for i, j in PAIRS), shares.prod(axis=1)]
    return np.column_stack([shares, *products[: terms - 3]])


def mixture_slopes(shares: FloatArray, terms: int) -> FloatArray:
    """Derivatives (N, 3, terms) of those terms by each share."""
    slopes = np.zeros((len(shares), 3, terms))
    slopes[:, range(3), range(3)] = 1.0
    if terms > 3:
        for place, (i, j) in enumerate(PAIRS, start=3):
            slopes[:, i, place], slopes[:, j, place] = shares[:, j], shares[:, i]
            if terms > 6:
                slopes[:, 3 - i - j, 6] = shares[:, i] * shares[:, j]
    return slopes
