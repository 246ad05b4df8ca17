"""The family of a rule against the networks that the paper's own rounding gives, and the parser of φ."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.baselines.published import baseline
from scalesearch.scaling.coefficients import Coefficients, coefficients_of, shares_of
from scalesearch.scaling.compound import Baseline
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.family import family, off_grid_note, parse_phis
from scalesearch.scaling.rule import ScalingRule
from scalesearch.scaling.simplex import Shares


def rule_for(own: Baseline, coefficients: Coefficients, budget: float) -> ScalingRule:
    return ScalingRule(
        budget=budget,
        alpha=coefficients.alpha,
        beta=coefficients.beta,
        gamma=coefficients.gamma,
        shares=shares_of(coefficients),
        intervals=None,
        resolved=True,
        tied=None,
        metric="val_loss",
        baseline=own,
        data={"source": "mnist-sample"},
        training={"epochs": 3},
        seeds=2,
        provenance={"device": "cpu"},
    )


def papers_rule() -> ScalingRule:
    coefficients = Coefficients(1.2, 1.1, 1.15)
    return rule_for(baseline("efficientnet-b0"), coefficients, coefficients.product)


def test_efficientnet_at_the_papers_coefficients():
    zero, one, two = family(papers_rule(), (0, 1, 2))
    assert zero.spec == baseline("efficientnet-b0").spec
    assert zero.cost_ratio == 1
    # By hand: ⌈1.2 d⌉; the nearest eight to 1.1 w, not below 0.9 of it; 1.15 · 224 = 257.6.
    assert one.spec.depths == (2, 3, 3, 4, 4, 5, 2)
    assert one.spec.widths == (32, 16, 24, 48, 88, 120, 208, 352, 1408)
    assert one.spec.resolution == 258
    # 1.44 · (1, 2, 3, 4) = (1.44, 2.88, 4.32, 5.76); 1.3225 · 224 = 296.24.
    assert two.spec.depths == (2, 3, 3, 5, 5, 6, 2)
    assert two.spec.resolution == 296
    # The design page's measured fact: 2.57 times, not 2, and not the nominal 1.92.
    assert round(one.cost_ratio, 2) == 2.57
    for member in (zero, one, two):
        assert member.complexity == complexity(member.spec)
        assert member.cost_ratio == member.complexity.macs / zero.complexity.macs
        assert member.coefficients == Coefficients(1.2, 1.1, 1.15) ** member.phi


def test_a_member_as_json():
    (member,) = family(papers_rule(), (1.5,))
    document = member.to_json()
    assert list(document) == ["phi", "alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations", "spec"]
    assert document["phi"] == 1.5
    assert document["alpha"] == pytest.approx(1.2**1.5, rel=1e-15)
    assert document["params"] == member.complexity.params
    assert document["spec"] == member.spec.to_json()


def test_a_negative_phi_shrinks():
    (member,) = family(papers_rule(), (-1,))
    assert member.spec.resolution == 195  # 224 ÷ 1.15 = 194.8
    assert member.cost_ratio < 1


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1.01, 64), st.sampled_from(["efficientnet-b0", "resnet-50"]))
def test_macs_follow_the_budget_as_far_as_rounding_lets_them(depth: float, fraction: float, budget: float, name: str):
    own = baseline(name)
    balanced = dataclasses.replace(own, rounding=dataclasses.replace(own.rounding, depth="balanced"))
    shares = Shares(depth, (1 - depth) * fraction, max(0.0, 1 - depth - (1 - depth) * fraction))
    rule = rule_for(balanced, coefficients_of(shares, budget), budget)
    zero, one = family(rule, (0, 1))
    assert zero.spec == own.spec
    assert all(
        a >= b for a, b in zip(one.spec.depths + one.spec.widths, own.spec.depths + own.spec.widths, strict=True)
    )
    # Rounding moves a width by at most its divisor's half (an eighth of 16), twice in the macs, a depth by a block
    # of 16, and stages have unlike costs: within a factor of 1.6 of the budget either way.
    assert budget / 1.6 < one.cost_ratio < budget * 1.6


@pytest.mark.parametrize("phi", [math.nan, math.inf, -60.0, 60.0, 1e6, -1e6])
def test_a_phi_without_a_network_is_an_error(phi: float):
    with pytest.raises(ValueError, match="`phi` must be"):
        family(papers_rule(), (phi,))


def test_the_largest_phi_is_still_exact():
    rule = papers_rule()
    with pytest.raises(ValueError, match=r"at most 22\.") as error:
        family(rule, (23,))
    assert "\n" not in str(error.value)
    (member,) = family(rule, (22,))
    assert member.complexity.macs < 2**53  # counted in float64


@pytest.mark.parametrize(
    ("text", "phis"),
    [
        ("3", (3.0,)),
        ("0:7", (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)),
        ("0,1,2.5", (0.0, 1.0, 2.5)),
        ("0:2:0.5", (0.0, 0.5, 1.0, 1.5, 2.0)),
        ("0:0.3:0.1", (0.0, 0.1, 0.2, 0.3)),
        ("0:1:0.4", (0.0, 0.4, 0.8)),
        ("-2:-1, 5", (-2.0, -1.0, 5.0)),
        ("2:2", (2.0,)),
    ],
)
def test_phis_are_numbers_lists_and_ranges(text: str, phis: tuple[float, ...]):
    assert parse_phis(text) == phis


@pytest.mark.parametrize(
    "text", ["", "two", "0:", ":7", "7:0", "0:1:0", "0:1:-1", "0:1:2:3", "1,,2", "nan", "0:inf", "0:1e9", "0:1:1e-320"]
)
def test_wrong_phis_are_one_line(text: str):
    with pytest.raises(ValueError, match=r"`phi` must") as error:
        parse_phis(text)
    assert "\n" not in str(error.value)
    assert repr(text) in str(error.value)


def test_one_phi_needs_no_list_and_a_family_prints_in_a_line():
    rule = papers_rule()
    assert family(rule, 1) == family(rule, (1,)) == family(rule, np.array([1.0]))
    assert repr(family(rule, (0, 1))) == "<Family: φ = 0 costs 1.000×, φ = 1 costs 2.573×>"
    assert repr(rule) == "<ScalingRule: efficientnet-b0, budget 1.92027, α = 1.2, β = 1.1, γ = 1.15>"


def test_a_baseline_off_the_grid_is_told_what_its_least_growth_costs():
    own = baseline("mobilenet-v1")
    off = own.spec.with_sizes(own.spec.depths, (4, *own.spec.widths[1:-2], 1020, 0), 32)
    coarse = Baseline("off", off, dataclasses.replace(own.rounding, stem="scaled"))
    grown = off.with_sizes(off.depths, (8, *off.widths[1:-2], 1024, 0), 32)
    ratio = complexity(grown).macs / complexity(off).macs
    assert off_grid_note(coarse) == (
        "Widths off the grid of `width_divisor` 8: stem 4, stage 5 1020. The least growth in width rounds them to "
        f"8, 1024, {ratio:.2f} times the cost; `width_divisor` 4 has no such jump."
    )
    fixed = Baseline("off", off, dataclasses.replace(own.rounding, stem="fixed"))
    assert "stem" not in off_grid_note(fixed)
    assert off_grid_note(own) == ""
    shrunk, same, _ = family(rule_for(coarse, Coefficients(1.2, 1.1, 1.15), 1.2 * 1.1**2 * 1.15**2), (-0.1, 0, 1))
    assert shrunk.cost_ratio <= same.cost_ratio == 1
