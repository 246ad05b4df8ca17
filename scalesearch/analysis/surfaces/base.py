"""The contract of a response surface: what each kind of surface over the shares must provide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scalesearch.analysis.statistics import LEVEL, FloatArray
from scalesearch.scaling.simplex import Shares


class InsufficientTrials(Exception):
    """Too few finished candidates; the message says how many there are and how many are needed."""


@dataclass(frozen=True, slots=True)
class Surface(ABC):
    """A metric as a function of the shares, fitted to the means of `n` candidates; all values in the metric's unit.

    Contract. A surface is an immutable value: no method changes it, and every method gives the same result each time.
    Shares are arrays (N, 3) in the order depth, width, resolution, each row ≥ 0 with sum 1. Predictions are for
    networks that cost the budget exactly, at the lowest level φ of the study. `maximise` says that a greater metric is
    better. Errors describe the fitted mean; the deviation of a single candidate is not part of them.
    `tests/analysis/surfaces/test_contract.py` holds every kind to this.

    A new kind is a module with a subclass and a function that fits it, and a line in `analysis.select.alternatives`.

    Attributes:
        metric: column of the candidates' table.
        budget: the study's budget B.
        model: name of the model, for readers.
        model_note: why another model was not used; empty if there is nothing to say.
        covariate_note: why the macs ratio is not a term; empty if it is one.
        adjusted_r2: adjusted R².
        residual_sd: standard deviation of one seed's result, lack of fit included (weights are numbers of seeds).
        residual_df: degrees of freedom of `residual_sd`.
        p: p value of the surface against a constant.
        n: number of candidates fitted.
        left_out: errors (n,) of predicting each candidate without it, in the order of the table.
        influence: Cook's distances (n,) of the candidates. Source: Cook, "Detection of influential observation in
            linear regression", Technometrics 19 (1977).
        validation: for each model tried, its name and the root mean square of its leave-one-out errors.
        levels_p: p value of the shares' effect being the same at all levels φ; None if it cannot be judged.
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
        """What the bounds take for granted, as a clause that follows their confidence level; empty by default."""
        return ""

    @abstractmethod
    def parameters(self) -> tuple[tuple[str, ...], Iterable[tuple[str, ...]]]:
        """The table of parameters: its heading and its rows, all cells as text."""

    @abstractmethod
    def predict(self, shares: ArrayLike) -> FloatArray:
        """Predictions (N,) at `shares` (N, 3)."""

    @abstractmethod
    def standard_error(self, shares: ArrayLike) -> FloatArray:
        """Standard errors (N,) of the predictions at `shares` (N, 3)."""

    @abstractmethod
    def with_error(self, variance: float, df: float) -> Self:
        """The same surface with errors for another `variance` of one seed's result, known with `df` degrees of freedom.

        A kind whose errors already come from the seeds returns itself.
        """

    @abstractmethod
    def without(self, index: int) -> Self:
        """The same model fitted without candidate `index`; only `predict` and what follows from it are updated."""

    @abstractmethod
    def optimum_candidates(self, maximise: bool) -> FloatArray:
        """Points (N, 3) of the triangle, the best of which is the surface's optimum."""

    @abstractmethod
    def may_be_optimum(self, shares: FloatArray, maximise: bool, level: float = LEVEL) -> NDArray[np.bool_]:
        """Which of `shares` (N, 3) the confidence region of the optimum contains at `level`, as booleans (N,)."""

    @abstractmethod
    def regret_bound(self, best: Shares, region: FloatArray, maximise: bool, level: float = LEVEL) -> float:
        """The most that the optimum `best` loses to a point of its confidence region (N, 3): a bound at `level`."""
