"""A short run of benchmarks/planted_truth.py: on every planted quadratic the statements of `choose` hold."""

import pytest

from benchmarks.planted_truth import CASES, Case, measure

REPETITIONS = 20


FIRST, *MORE = [case for case in CASES if case.degree == 4]


@pytest.mark.parametrize(
    "case", [FIRST, *(pytest.param(case, marks=pytest.mark.long) for case in MORE)], ids=lambda case: case.name
)
def test_region_bound_and_resolved_hold_as_often_as_stated_and_regret_is_a_fifth_of_the_papers(case: Case) -> None:
    """95 % of 20 are 19: 16 or more are seen in 99.7 % of all cases. `resolved` is wrong in 5 % at most: not thrice."""
    outcome = measure(case, REPETITIONS)
    assert outcome.held >= 16
    assert outcome.bounded >= 16
    assert outcome.wrong <= 2
    if case.name == "flat":
        assert outcome.resolved <= 3
        assert outcome.part > 0.8
    else:
        assert outcome.resolved == REPETITIONS
        assert outcome.regret <= outcome.paper / 5
