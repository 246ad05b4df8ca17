"""`ScalingRule`: its invariants, and the keys of its JSON object."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalesearch.baselines.published import baseline
from scalesearch.export.rule_json import parse_rule
from scalesearch.scaling.coefficients import coefficients_of
from scalesearch.scaling.rule import ScalingRule
from scalesearch.scaling.simplex import from_search_space

KEYS = [
    "schema_version", "budget", "alpha", "beta", "gamma", "shares", "intervals", "resolved", "tied", "metric",
    "baseline", "rounding", "data", "training", "seeds", "provenance",
]  # fmt: skip


def example(depth: float = 0.3, fraction: float = 0.4, budget: float = 2.0) -> ScalingRule:
    shares = from_search_space(depth, fraction)
    coefficients = coefficients_of(shares, budget)
    return ScalingRule(
        budget=budget,
        alpha=coefficients.alpha,
        beta=coefficients.beta,
        gamma=coefficients.gamma,
        shares=shares,
        intervals=None,
        resolved=False,
        tied=None,
        metric="val_accuracy",
        baseline=baseline("mobilenet-v2"),
        data={"source": "idx:folder", "train": 100},
        training={"epochs": 5, "learning_rate": 0.01},
        seeds=3,
        provenance={"versions": {"scalesearch": "0.1.0"}, "device": "cpu"},
    )


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1.001, 1e7))
def test_any_split_of_any_budget_keeps_the_product_and_the_round_trip(depth: float, fraction: float, budget: float):
    rule = example(depth, fraction, budget)
    # Four rounded operations on a number of the budget's size; 1e-9 is the contract's for budgets below a million.
    assert abs(rule.alpha * rule.beta**2 * rule.gamma**2 - budget) <= max(1e-9, 16 * 2**-52 * budget)
    assert parse_rule(json.loads(json.dumps(rule.to_json()))) == rule


def test_the_document_has_the_keys_of_the_contract():
    document = example().to_json()
    assert list(document) == KEYS
    assert document["schema_version"] == 2
    assert document["baseline"] == {"name": "mobilenet-v2", "spec": baseline("mobilenet-v2").spec.to_json()}
    assert document["rounding"] == {
        "width_divisor": 8,
        "depth": "ceil",
        "resolution_step": 1,
        "stem": "scaled",
        "head": "grows",
    }
    assert document["intervals"] is None
    assert document["tied"] is None
    assert document["shares"] == {"depth": 0.3, "width": pytest.approx(0.28), "resolution": pytest.approx(0.42)}


def test_intervals_and_ties_of_a_later_version_round_trip():
    rule = dataclasses.replace(example(), intervals={"depth": [0.1, 0.5]}, tied=(1, 2))
    assert parse_rule(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize("off", [2e-9, -2e-9, 0.1])
def test_the_product_is_checked(off: float):
    rule = example()
    with pytest.raises(ValueError, match=r"`alpha` · `beta`² · `gamma`² must equal `budget` to 1e-09"):
        dataclasses.replace(rule, budget=rule.budget + off)


def test_the_shares_are_checked():
    with pytest.raises(ValueError, match="`shares` must be those of"):
        dataclasses.replace(example(), shares=from_search_space(0.31, 0.4))
