"""Polynomials against a planted truth: coefficients, errors, the choice of a model, leaving one candidate out."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from scalesearch.analysis.optimum import optimum
from scalesearch.analysis.statistics import f_test
from scalesearch.analysis.surfaces.base import InsufficientTrials
from scalesearch.analysis.surfaces.mixture import CUBIC, QUADRATIC, mixture_slopes, mixture_terms
from scalesearch.analysis.surfaces.polynomial import COVARIATE, Polynomial, fit_polynomial
from scalesearch.analysis.tables import candidates_table
from scalesearch.results.records import Failure
from scalesearch.scaling.simplex import Shares, lattice
from tests.planted import PlantedSurface, planted_candidates, planted_records

GRID = np.array([shares.values for shares in lattice(60)])


def test_a_planted_surface_is_recovered_exactly() -> None:
    planted = PlantedSurface()
    table = candidates_table(planted_records(planted, seed_sd=0, noise_sd=0), 2.0, "val_loss")
    fit = fit_polynomial(table, 2.0, "val_loss")
    assert fit.model == "Scheffé quadratic"
    assert (fit.model_note, fit.covariate_note) == ("", "")
    assert fit.terms[-1] == COVARIATE
    # Least squares of 15 rows of numbers near 1 in float64: a few hundred units in the last place.
    assert fit.coefficients == pytest.approx((*planted.linear, *planted.interaction, planted.macs_effect), abs=1e-12)
    assert fit.predict(GRID) == pytest.approx([planted.at(Shares(*x), 2.0) for x in GRID.tolist()], abs=1e-12)
    assert (fit.n, fit.residual_df) == (15, 8)
    assert fit.adjusted_r2 == pytest.approx(1, abs=1e-12)


@pytest.mark.long
def test_with_noise_the_errors_are_those_it_states() -> None:
    """Over 100 draws the standardised errors of every term have mean 0 and variance 8 ÷ 6, Student's with 8 df."""
    planted, errors, sds = PlantedSurface(), [], []
    truth = np.array((*planted.linear, *planted.interaction, planted.macs_effect))
    for key in range(100):
        # Without a seed effect: it moves all means alike, which is not an error of the shape.
        table = candidates_table(planted_records(planted, seed_sd=0, noise_sd=0.01, key=key), 2.0, "val_loss")
        fit = fit_polynomial(table, 2.0, "val_loss")
        if fit.model != QUADRATIC:
            continue  # by chance the special cubic predicted better
        errors.append((np.array(fit.coefficients) - truth) / np.array(fit.standard_errors))
        sds.append(fit.residual_sd**2)
    z = np.array(errors)
    assert len(z) >= 90
    # A mean of 100 such has a standard deviation of 0.115: four of them.
    assert np.abs(z.mean(axis=0)).max() < 0.46
    # The variance of Student's t (8 df) has, in 100 draws, a standard deviation of about 0.3: four of them.
    assert np.abs(z.var(axis=0) - 8 / 6).max() < 1.2
    # residual_sd is that of a single seed: 800 degrees of freedom in all, so 5 % of the variance; four of them.
    assert np.mean(sds) == pytest.approx(0.01**2, rel=0.2)


def test_candidates_count_by_their_seeds() -> None:
    table = candidates_table(planted_records(PlantedSurface(), noise_sd=0.02), 2.0, "val_loss")
    heavy = table.assign(seeds=table["seeds"].where(table.index != 3, 10**9))
    residuals = [
        abs(_residual(fit_polynomial(candidates, 2.0, "val_loss"), candidates.iloc[3])) for candidates in (table, heavy)
    ]
    assert residuals[0] > 1e-4
    assert residuals[1] < 1e-8


def _residual(fit: Polynomial, row: pd.Series) -> float:
    shares = np.array([[row["depth_share"], row["width_share"], row["resolution_share"]]])
    covariate = fit.coefficients[-1] * math.log(row["macs_ratio"] / 2)
    return float(row["val_loss"] - fit.predict(shares)[0] - covariate)


def test_the_covariate_removes_a_mismatch_in_macs() -> None:
    planted = PlantedSurface(macs_effect=-0.5)
    loose = planted_candidates(tolerance=0.1)
    table = candidates_table(planted_records(planted, seed_sd=0, noise_sd=0, candidates=loose), 2.0, "val_loss")
    assert table["macs_error"].abs().max() > 0.02
    fit = fit_polynomial(table, 2.0, "val_loss")
    truth = np.array([planted.at(Shares(*x), 2.0) for x in GRID.tolist()])
    assert fit.predict(GRID) == pytest.approx(truth, abs=1e-12)
    blind = fit_polynomial(table.assign(macs_ratio=2.0), 2.0, "val_loss")
    assert blind.covariate_note == "macs ratio omitted: all candidates cost the same"
    assert COVARIATE not in blind.terms
    assert np.abs(blind.predict(GRID) - truth).max() > 0.005


def test_a_covariate_that_follows_from_the_shares_is_left_out() -> None:
    table = candidates_table(planted_records(PlantedSurface()), 2.0, "val_loss")
    bound = table.assign(macs_ratio=2 * np.exp(0.01 * table["depth_share"] - 0.02 * table["width_share"]))
    fit = fit_polynomial(bound, 2.0, "val_loss")
    assert fit.covariate_note == "macs ratio omitted: it follows from the shares"
    assert len(fit.coefficients) == 6


@pytest.mark.parametrize(
    ("rows", "model", "note"),
    [
        (15, "Scheffé quadratic", ""),
        (8, "Scheffé quadratic", ""),
        (7, "Scheffé linear", "the Scheffé quadratic model needs 8 candidates with distinct shares, but got 7"),
        (5, "Scheffé linear", "the Scheffé quadratic model needs 8 candidates with distinct shares, but got 5"),
    ],
)
def test_fewer_candidates_fall_back_to_the_linear_model(rows: int, model: str, note: str) -> None:
    # From the corners and the middle outwards, so that every prefix spans the triangle.
    table = candidates_table(planted_records(PlantedSurface()), 2.0, "val_loss").set_index("candidate")
    order = [0, 4, 14, 6, 9, 2, 11, 7, 1, 3, 5, 8, 10, 12, 13]
    fit = fit_polynomial(table.loc[order[:rows]].reset_index(), 2.0, "val_loss")
    assert (fit.model, fit.model_note) == (model, note)
    assert fit.n == rows


def test_a_special_cubic_truth_is_recognised() -> None:
    """A quadratic surface and a bump in the middle; the optimum against a dense grid."""
    records = planted_records(PlantedSurface(), noise_sd=0.001, seed_sd=0, candidates=planted_candidates(degree=6))
    table = candidates_table(records, 2.0, "val_loss")
    bump = 2.0 * table[["depth_share", "width_share", "resolution_share"]].prod(axis=1)
    fit = fit_polynomial(table.assign(val_loss=table["val_loss"] + bump), 2.0, "val_loss")
    assert fit.model == CUBIC
    # 28 candidates with an error of 0.001 ÷ √3 each: five standard errors of the coefficient.
    assert fit.coefficients[6] == pytest.approx(2.0, abs=5 * fit.standard_errors[6])
    errors = dict(fit.validation)
    assert errors[CUBIC] < errors[QUADRATIC] / 2
    best = optimum(fit, maximise=False)
    fine = np.array([shares.values for shares in lattice(200)])
    assert fit.predict([best.values])[0] <= fit.predict(fine).min() + 1e-12
    assert np.abs(fine[fit.predict(fine).argmin()] - np.array(best.values)).max() <= 1 / 100


def test_leaving_one_out_is_leaving_one_out() -> None:
    table = candidates_table(planted_records(PlantedSurface(), seeds=(0, 1)), 2.0, "val_loss")
    fit = fit_polynomial(table, 2.0, "val_loss")
    errors = []
    for row in range(len(table)):
        rest = fit_polynomial(table.drop(index=row), 2.0, "val_loss")
        assert rest.model == QUADRATIC
        left_out = table.iloc[[row]]
        shares = left_out[["depth_share", "width_share", "resolution_share"]].to_numpy(float)
        covariate = rest.coefficients[-1] * math.log(left_out["macs_ratio"].item() / 2)
        errors.append(left_out["val_loss"].item() - rest.predict(shares)[0] - covariate)
    # 1e-9: the leverages of one fit agree with fifteen fits up to rounding.
    assert dict(fit.validation)[QUADRATIC] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-9)


@pytest.mark.parametrize("terms", [3, 6, 7])
def test_slopes_against_finite_differences(terms: int) -> None:
    points = np.array([[0.2, 0.3, 0.5], [0.0, 0.6, 0.4]])
    slopes = mixture_slopes(points, terms)
    for place, step in enumerate(1e-6 * np.eye(3)):
        difference = (mixture_terms(points + step, terms) - mixture_terms(points - step, terms)) / 2e-6
        assert slopes[:, place] == pytest.approx(difference, abs=1e-8)


def test_robust_errors_are_those_of_hc3() -> None:
    table = candidates_table(planted_records(PlantedSurface()), 2.0, "val_loss")
    fit = fit_polynomial(table, 2.0, "val_loss")
    shares = table[["depth_share", "width_share", "resolution_share"]].to_numpy(float)
    x = np.column_stack([fit.mixture(shares), np.log(table["macs_ratio"] / 2)])
    inverse = np.linalg.inv(x.T @ x)
    residuals = table["val_loss"].to_numpy() - x @ np.array(fit.coefficients)
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    meat = x * (residuals / (1 - leverage))[:, None]
    expected = np.sqrt(np.diag(inverse @ (meat.T @ meat) @ inverse))
    assert fit.robust_errors == pytest.approx(expected, rel=1e-6)


def test_robust_errors_are_those_of_leaving_out_a_candidate_with_all_its_seeds() -> None:
    """The jackknife over clusters, on single runs, candidates having one to three of them: CV3."""
    records = planted_records(PlantedSurface(), seed_sd=0, noise_sd=0.02)
    records = [dataclasses.replace(one, seeds=one.seeds[: 1 + place % 3]) for place, one in enumerate(records)]
    runs = [(place, one.candidate, seed.val_loss) for place, one in enumerate(records) for seed in one.seeds]
    cluster = np.array([place for place, _, _ in runs])
    y = np.array([loss for _, _, loss in runs])
    means = np.array([y[cluster == place].mean() for place in range(len(records))])  # without removing seed effects
    table = candidates_table(records, 2.0, "val_loss").sort_values("candidate").assign(val_loss=means)
    fit = fit_polynomial(table, 2.0, "val_loss")
    ratio = np.log([candidate.cost_ratio / 2 for _, candidate, _ in runs])
    x = np.column_stack([fit.mixture([candidate.shares.values for _, candidate, _ in runs]), ratio])
    whole = np.linalg.lstsq(x, y, rcond=None)[0]
    assert fit.coefficients == pytest.approx(whole, abs=1e-10)
    squares = np.zeros(len(whole))
    for place in range(len(records)):
        kept = cluster != place
        squares += (np.linalg.lstsq(x[kept], y[kept], rcond=None)[0] - whole) ** 2
    assert fit.robust_errors == pytest.approx(np.sqrt(squares), rel=1e-6)


def test_influence_is_cooks_distance() -> None:
    table = candidates_table(planted_records(PlantedSurface()), 2.0, "val_loss")
    fit = fit_polynomial(table, 2.0, "val_loss")
    shares = table[["depth_share", "width_share", "resolution_share"]].to_numpy(float)
    design = np.column_stack([fit.mixture(shares), np.log(table["macs_ratio"] / 2)])
    cooks = sm.OLS(table["val_loss"].to_numpy(), design).fit().get_influence().cooks_distance[0]
    assert fit.influence == pytest.approx(cooks, rel=1e-6)


def test_a_surface_without_a_candidate_is_that_of_the_others() -> None:
    records = planted_records(PlantedSurface(), seeds=(0, 1))
    table = candidates_table(records, 2.0, "val_loss")
    table = table.assign(seeds=[1 + place % 3 for place in range(len(table))])
    fit = fit_polynomial(table, 2.0, "val_loss")
    for place in range(len(table)):
        rest = fit_polynomial(table.drop(index=place), 2.0, "val_loss")
        assert rest.model == fit.model
        assert fit.without(place).coefficients == pytest.approx(rest.coefficients, abs=1e-9)


def test_too_few_candidates_are_an_error_with_the_reason() -> None:
    table = candidates_table(planted_records(PlantedSurface()), 2.0, "val_loss")
    with pytest.raises(
        InsufficientTrials, match="the Scheffé linear model needs 5 candidates with distinct shares, but got 4"
    ):
        fit_polynomial(table.head(4), 2.0, "val_loss")


def test_candidates_on_a_line_do_not_span_the_triangle() -> None:
    table = candidates_table(planted_records(PlantedSurface()), 2.0, "val_loss")
    t = np.linspace(0, 0.5, len(table))
    line = table.assign(depth_share=t, width_share=t, resolution_share=1 - 2 * t)
    with pytest.raises(InsufficientTrials, match="the 15 distinct candidates do not span the Scheffé linear model"):
        fit_polynomial(line, 2.0, "val_loss")


def test_failed_candidates_are_left_out_even_where_some_seeds_finished() -> None:
    records = list(planted_records(PlantedSurface()))
    records[4] = dataclasses.replace(records[4], failure=Failure("diverged", "loss is not finite"))
    table = candidates_table(records, 2.0, "val_loss")
    assert table["val_loss"].notna().all()
    assert fit_polynomial(table, 2.0, "val_loss").n == 14


def test_an_f_test_against_its_definition() -> None:
    # p by the closed form of F with 2 and n degrees of freedom: (1 + 2F/n)^(−n/2).
    f, p = f_test(30.0, 10.0, 2, 8)
    assert f == pytest.approx(8.0)
    assert p == pytest.approx((1 + 2 * 8.0 / 8) ** -4, rel=1e-12)
    assert f_test(1.0, 0.0, 2, 8) == (math.inf, 0.0)
    assert f_test(0.0, 0.0, 2, 8) == (0.0, 1.0)


def test_the_macs_ratio_is_omitted_if_its_slope_has_the_wrong_sign() -> None:
    """Noise-free, so that the sign is the planted one: more macs must not add to a loss nor take from an accuracy."""
    for effect, kept in ((-0.5, True), (0.5, False)):
        records = planted_records(
            PlantedSurface(macs_effect=effect), seed_sd=0, noise_sd=0, candidates=planted_candidates(tolerance=0.1)
        )
        table = candidates_table(records, 2.0, "val_loss")
        for metric in ("val_loss", "val_accuracy"):
            fit = fit_polynomial(table, 2.0, metric)
            assert (COVARIATE in fit.terms) is kept, (metric, effect)
            assert ("more macs would make the metric worse" in fit.covariate_note) is not kept
